"""The words that all rooms share. Imports nothing else of divaug."""
