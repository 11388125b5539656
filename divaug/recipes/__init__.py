"""Recipes: every runnable, as ``python -m divaug.recipes.NAME`` or ``divaug NAME``."""
