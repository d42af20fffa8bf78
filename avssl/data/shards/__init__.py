"""Corpora copied into tar shards."""
