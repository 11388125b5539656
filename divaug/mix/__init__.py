"""Mixes: a batch of pictures in, a batch of pictures and mixed labels out."""
