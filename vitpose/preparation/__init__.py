"""Raw data sets to prepared ones: readers, checks, leaks, held-out people, cutting.

Only `prepare` and `vitpose data` import it; it knows no network.
"""
