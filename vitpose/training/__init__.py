"""Losses, optimizer, the training loop and its checkpoints. Knows neither data sets nor models."""
