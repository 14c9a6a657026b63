"""Poses to images."""
