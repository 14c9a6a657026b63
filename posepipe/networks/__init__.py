"""What both stages stand on: trunks, devices, number formats."""
