"""A synthetic dataset of hand radiographs in the exact format of the competition."""
