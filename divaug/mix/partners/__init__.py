"""Partner rules: which pictures of the whole training cut are mixed into a batch."""
