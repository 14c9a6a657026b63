"""End-to-end top-down multi-person 2D pose estimation after the Cascaded Pyramid Network."""
