"""Features of files: extraction, stages, tables of moments, search."""
