"""The program `vitpose`, one file a theme.

Imports heavy modules inside its commands.
"""
