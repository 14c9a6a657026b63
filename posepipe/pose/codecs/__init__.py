"""Keypoints to what networks give, and back: one codec per convention."""
