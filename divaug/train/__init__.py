"""How one epoch runs: from draws to batches to gradients."""
