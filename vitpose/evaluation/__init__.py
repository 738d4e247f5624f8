"""The published protocols, exact, and where a model is weak.

Takes predictions; the two files that make them (`annotation_inference`, `held_out`) use `inference`.
"""
