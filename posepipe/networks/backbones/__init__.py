"""Backbones by their names, for both stages."""
