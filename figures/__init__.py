"""Recipes of figures: each takes rows and returns a matplotlib figure."""
