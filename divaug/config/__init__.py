"""What was asked for: names, keys, files and flags, merged into the configuration of a run."""
