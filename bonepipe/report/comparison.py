"""Two runs side by side, as text."""

from typing import Any


def text(found: dict[str, Any]) -> str:
    """Lay the comparison out for people: settings, verdict on them, classes from the most lost to the most gained."""
    settings = [f"  {key}: {values['a']!r} -> {values['b']!r}" for key, values in found["settings"].items()]
    totals = [f"{key}: {v['a']:.4f} -> {v['b']:.4f} ({v['b'] - v['a']:+.4f})" for key, v in found["scores"].items()]
    left_out = found["images_of_one_run_only"]
    beside = f" ({left_out} more have only one of the runs and are left out)" if left_out else ""
    lines = ["settings that differ:", *(settings or ["  none"]), "", _verdict(found["changes"]), "", *totals]
    lines.append(f"Dice out of fold at threshold 0.5 over {found['images']} images{beside}:")
    if found["patients"] is None:
        lines.append("(whose images they are is not known here, so the errors take each for another patient's)")
    return "\n".join([*lines, *_table(found)])


def _verdict(changes: list[str]) -> str:
    if not changes:
        return "no setting differs: a change of score comes from the code, the data or the machine"
    if len(changes) == 1:
        return f"one change: {changes[0]}"
    names = ", ".join(changes)
    return f"{len(changes)} changes ({names}): the score cannot tell which of them did it; change one at a time"


def _table(found: dict[str, Any]) -> list[str]:
    classes = sorted(found["per_class"].items(), key=lambda item: item[1]["change"])
    width = max(len(name) for name in ("all classes", *found["per_class"]))
    head = f"{'class':<{width}} {'A':>8} {'B':>8} {'change':>8} {'+- s.e.':>8}"
    return [head, *(_row(name, change, width) for name, change in [*classes, ("all classes", found["dice"])])]


def _row(name: str, change: dict[str, Any], width: int) -> str:
    error = change["standard_error"]
    shown = f"{'-':>8}" if error is None else f"{error:8.4f}"
    return f"{name:<{width}} {change['a']:8.4f} {change['b']:8.4f} {change['change']:+8.4f} {shown}"
