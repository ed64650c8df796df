"""Out-of-fold predictions: how they are compared, written and kept."""
