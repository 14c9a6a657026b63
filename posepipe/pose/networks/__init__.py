"""The pose networks: crops in, heatmaps out."""
