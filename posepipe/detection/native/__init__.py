"""detectron2's R-CNNs and RetinaNet on torch and torchvision alone, without detectron2."""
