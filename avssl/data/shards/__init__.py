"""Prepared corpora: clips copied into tar shards."""
