"""How one epoch runs: from draws to batches, from batches to gradients."""
