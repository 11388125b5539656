"""Losses: logits and hard labels in, one loss a row out; they never reduce (``divaug.base.labels.mixed_loss`` does)."""
