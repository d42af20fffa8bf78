"""avssl: learn from video with its own sound, without labels."""

__version__ = "0.1.0"
