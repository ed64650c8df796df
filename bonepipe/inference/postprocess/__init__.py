"""What happens to probabilities and masks after the models: dense CRF and repairs."""
