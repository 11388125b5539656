"""What is tested over many runs."""
