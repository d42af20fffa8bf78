"""SoundingShapes: drawn objects of twelve kinds, each with its own timbre, before a textured background."""
