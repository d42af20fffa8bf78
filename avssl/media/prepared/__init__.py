"""Clips in the prepared format: writer and reader."""
