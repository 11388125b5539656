"""From data sets to batches: data sets, long-tailed cuts, held-out parts and loaders."""
