"""Is breadth worth as much as number? Real images exchanged against kinds of images, in new cuts of the data."""
