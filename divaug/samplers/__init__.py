"""Samplers: which training pictures an epoch visits."""
