"""Benchmarks: this project's way and the organisers' baseline in turn, and what they cost as the data grows."""
