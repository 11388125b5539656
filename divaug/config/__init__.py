"""What was asked for: names, keys, files and flags, merged to the configuration of a run."""
