"""Losses: logits and hard labels in, one loss a row out; they never reduce (``divaug.labels.mixed_loss`` does)."""
