"""Sets of keypoints: human, whole-body, animal, your own from a file.

Knows no images and no models.
"""
