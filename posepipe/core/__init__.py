"""The nouns of the pipeline: boxes, poses, skeletons and the affine maps between images.

numpy only (and OpenCV in `affine.py`); no files, no networks.
"""
