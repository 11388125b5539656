"""After training: over-sampling frozen embeddings, and training a new head on them."""
