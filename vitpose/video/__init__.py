"""Frames with exact identity, person detectors, identities across frames.

Knows no poses and no label format.
"""
