"""Stage 2: pictures and detections to poses."""
