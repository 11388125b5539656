"""After training: over-sampling frozen embeddings, and a new head on them."""
