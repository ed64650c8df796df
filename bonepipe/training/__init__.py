"""Training one fold, and running all of them."""
