"""Rows of media files that lie inside larger files: tars of WebDataset, and saved Hugging Face datasets."""
