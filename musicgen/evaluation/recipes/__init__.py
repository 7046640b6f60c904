"""Recipes: models, captions, seeds and measures in one file, and the table that they make."""
