"""Pixel augmentation: one picture in, one picture out, drawn once a step on the host."""
