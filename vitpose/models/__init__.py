"""The model family: backbone, attention variants, heads, MAE, knowledge token, weights."""
