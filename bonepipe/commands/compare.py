"""`bonepipe compare RUN_A RUN_B`: what was changed between two runs, and what came of it."""

import argparse
import json
from pathlib import Path
from typing import Any

from bonepipe.pipeline.experiment import HARMLESS
from bonepipe.report.comparison import compare_runs, read_run_files

EPILOG = """\
RUN is the folder of a run, an ensemble or a second look (runs/NAME), or of a fold (runs/NAME/fold-0). Two things are
shown:
  settings   every key of the resolved configs that differs; names, folders, devices and the like do not count
  Dice       out of fold, at threshold 0.5, over the images that both runs predicted: the mean of the differences
             image by image, and its standard error. A change below two standard errors is easily chance, and another
             seed alone may change more.
One change at a time: where more than one setting differs, nobody can say which of them did it. A group whose kind was
exchanged (loss=bce for loss=dice_focal) counts as one change.

example:
  bonepipe train fold=0 name=longer trainer.epochs=40
  bonepipe compare runs/demo/fold-0 runs/longer/fold-0
"""
IGNORED = (*HARMLESS, "name")


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    result = argparse.ArgumentParser(
        "bonepipe compare",
        description="Show which settings differ between two runs, and how the Dice changed.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    result.add_argument("a", metavar="RUN_A", type=Path, help="the run to start from")
    result.add_argument("b", metavar="RUN_B", type=Path, help="the run with the change")
    result.add_argument(
        "--json", action="store_true", help="one JSON object: settings, changes, images, dice, per_class, scores"
    )
    return result


def report(found: dict[str, Any]) -> str:
    """Lay the comparison out for people: settings, verdict on them, classes from the most lost to the most gained."""
    settings = [f"  {key}: {values['a']!r} -> {values['b']!r}" for key, values in found["settings"].items()]
    totals = [f"{key}: {v['a']:.4f} -> {v['b']:.4f} ({v['b'] - v['a']:+.4f})" for key, v in found["scores"].items()]
    left_out = found["images_of_one_run_only"]
    beside = f" ({left_out} more have only one of the runs and are left out)" if left_out else ""
    lines = ["settings that differ:", *(settings or ["  none"]), "", _verdict(found["changes"]), "", *totals]
    return "\n".join(
        [*lines, f"Dice out of fold at threshold 0.5 over {found['images']} images{beside}:", *_table(found)]
    )


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


def main(argv: list[str]) -> int:
    """Compare and print."""
    arguments = parser().parse_args(argv)
    found = compare_runs(read_run_files(arguments.a), read_run_files(arguments.b), IGNORED)
    print(json.dumps(found, indent=2, ensure_ascii=False) if arguments.json else report(found))
    return 0
