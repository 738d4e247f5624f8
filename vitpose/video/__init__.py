"""Video: frames with exact identity, person boxes, identities across frames."""
