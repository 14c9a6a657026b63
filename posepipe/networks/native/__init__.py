"""What detectron2's networks are made of, for both stages: backbone, RoIs, images, tables."""
