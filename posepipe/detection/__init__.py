"""Stage 1: images to detections."""
