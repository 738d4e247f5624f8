"""Data: readers (one format a file), the built-in people, crop shards, augmentation, loading."""
