"""What detectron2's networks are made of, for both stages: trunk, RoIs, images, tables."""
