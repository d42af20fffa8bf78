"""Official annotations of public datasets."""
