"""Losses, optimizer, schedules, the training loop and its checkpoints.

Takes model, loader and loss as arguments: imports neither `data` nor `models`.
"""
