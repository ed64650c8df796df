"""Ensembles of finished runs: members, scores, and which to take."""
