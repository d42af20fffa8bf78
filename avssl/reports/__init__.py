"""Figures, plots, HTML pages and text tables."""
