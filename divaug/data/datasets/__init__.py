"""Data sets: one file each, a function from a Request to a Dataset."""
