"""A run and what can be done with it: train, resume, measure, load, mirror."""
