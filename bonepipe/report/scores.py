"""Scores as a table, and in one line."""

from collections.abc import Mapping
from typing import Any

OF_THE_TEST_SET = ("public", "private", "test_")


def text(scores: dict[str, Any]) -> str:
    """Lay the scores out for people: classes from worst to best, then the means."""
    classes = sorted(scores["per_class"].items(), key=lambda item: item[1])
    totals = [(name, scores[name]) for name in ("public", "private", "dice") if name in scores]
    width = max(len(name) for name, _ in classes + totals)
    lines = [f"{name:<{width}}  {value:.5f}" for name, value in classes + totals]
    return "\n".join([*lines[: len(classes)], "-" * (width + 9), *lines[len(classes) :]])


def line(scores: Mapping[str, Any], *, new: bool = False) -> str:
    """All single numbers, by name; those of the test set alone where a report of the cross-validation stands above."""
    numbers = {key: value for key, value in scores.items() if isinstance(value, float)}
    shown = {key: value for key, value in numbers.items() if not new or key.startswith(OF_THE_TEST_SET)}
    return "  ".join(f"{key} {value:.4f}" for key, value in shown.items())
