"""Ray: start it, train, label and cut on it.

Knows no registry and no page.
"""
