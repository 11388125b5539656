"""Trackers: the JSON-lines log that is always written, and its mirror in MLflow."""
