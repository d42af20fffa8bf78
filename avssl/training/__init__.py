"""A training run: building its parts, setting it up, its run directory, tasks and monitors."""
