"""Scores in one line."""

from collections.abc import Mapping
from typing import Any


def line(scores: Mapping[str, Any]) -> str:
    """All single numbers, by name."""
    return "  ".join(f"{key} {value:.4f}" for key, value in scores.items() if isinstance(value, float))
