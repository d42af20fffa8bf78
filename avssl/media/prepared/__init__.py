"""Write and read clips in the prepared format."""
