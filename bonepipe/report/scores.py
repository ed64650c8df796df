"""Scores as a table, and in one line."""

from collections.abc import Mapping
from typing import Any


def text(scores: dict[str, Any]) -> str:
    """Lay the scores out for people: classes from worst to best, then the means."""
    classes = sorted(scores["per_class"].items(), key=lambda item: item[1])
    totals = [(name, scores[name]) for name in ("public", "private", "dice") if name in scores]
    width = max(len(name) for name, _ in classes + totals)
    lines = [f"{name:<{width}}  {value:.5f}" for name, value in classes + totals]
    return "\n".join([*lines[: len(classes)], "-" * (width + 9), *lines[len(classes) :]])


def line(scores: Mapping[str, Any]) -> str:
    """All single numbers, by name."""
    return "  ".join(f"{key} {value:.4f}" for key, value in scores.items() if isinstance(value, float))
