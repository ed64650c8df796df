"""Figures of data and results."""
