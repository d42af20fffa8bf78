"""Recipes: one file for each verb of ``avssl``, to be read from top to bottom."""
