"""What a person looks at: the report and its pictures.

Reads metrics, plots and labels; loads no model and imports no other room.
"""
