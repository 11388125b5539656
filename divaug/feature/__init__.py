"""Feature augmentation: a batch of embeddings and its labels in, embeddings and labels out."""
