"""Stage 1: pictures to detections."""
