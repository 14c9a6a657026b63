"""What both stages build on: backbones, devices, number formats."""
