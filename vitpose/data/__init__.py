"""What training reads: crop shards, augmentation, sampling, loading.

Knows no raw format, no network and no loss.
"""
