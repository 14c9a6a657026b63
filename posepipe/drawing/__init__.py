"""Poses to pictures."""
