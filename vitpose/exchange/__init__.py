"""Weights in from and out to other projects, and models exported to run without this code.

May use models; nothing that trains or labels may import it.
"""
