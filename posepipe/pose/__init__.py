"""Stage 2: images and detections to poses."""
