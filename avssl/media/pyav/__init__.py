"""The PyAV reader."""
