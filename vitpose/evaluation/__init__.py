"""How good a model's keypoints are: the published protocols, and where a model is weak."""
