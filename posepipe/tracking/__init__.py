"""People in films: who is who from frame to frame, and keypoints that do not jitter."""
