"""A synthetic dataset of hand radiographs in the exact format of the competition."""

PLANTED_SHARE = 0.015  # of the train images whose annotation is wrong on purpose
