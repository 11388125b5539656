"""An augmentation for divaug in a package of its own."""
