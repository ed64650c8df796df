"""What happens to probabilities and masks after the models: a dense CRF, and operations on masks."""
