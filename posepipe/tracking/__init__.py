"""People in videos: who is who from frame to frame, and keypoints that do not jitter."""
