"""The published protocols, exact, and where a model is weak.

Takes predictions; only `annotation_inference`, `held_out` and `quick` make them, by `inference`.
"""
