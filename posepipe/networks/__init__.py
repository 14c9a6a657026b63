"""What both stages build on: trunks, devices, number formats."""
