"""The library in one line: `vitpose.load(model)(picture)`.

Puts models, detectors and drawing together for a program that has a picture; decides nothing of its own.
"""
