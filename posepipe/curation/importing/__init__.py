"""Checkpoints of other programs made into model folders of this one."""
