"""`bonepipe compare RUN_A RUN_B`: what was changed between two runs, and what came of it."""

import json
from collections.abc import Sequence
from pathlib import Path

from bonepipe.cli.arguments import make_parser

SUMMARY = """\
Show which settings differ between two runs, and how the Dice changed.

RUN is the folder of a run, an ensemble or a cascade (runs/NAME), or of a fold (runs/NAME/fold-0). Two things are shown:
  settings   every key of the resolved configs that differs, and of ensembles and cascades their members, weights,
             classes and views; names, folders, devices and the like do not count
  Dice       out of fold, at threshold 0.5, over the images that both runs predicted: the mean of the differences
             image by image, and its standard error from patient to patient. A change below two standard errors is
             easily chance, and another seed alone may change more.
One change at a time: where more than one setting differs, nobody can say which of them did it. A group whose kind was
exchanged (loss=bce for loss=dice_focal) counts as one change."""
EXAMPLES = """
bonepipe train fold=0 name=longer trainer.epochs=40
bonepipe compare runs/demo/fold-0 runs/longer/fold-0"""


def main(words: Sequence[str]) -> int:
    """Compare and print."""
    parser = make_parser("compare", SUMMARY, examples=EXAMPLES)
    parser.add_argument("a", metavar="RUN_A", type=Path, help="the run to start from")
    parser.add_argument("b", metavar="RUN_B", type=Path, help="the run with the change")
    shown = "one JSON object: settings, changes, images, patients, dice, per_class, scores"
    parser.add_argument("--json", action="store_true", help=shown)
    given = parser.read(words)
    from bonepipe.pipeline.comparison import compare, read_run
    from bonepipe.report import comparison as report

    compared = compare(read_run(given.a), read_run(given.b))
    print(json.dumps(compared, indent=2, ensure_ascii=False) if given.json else report.text(compared))
    return 0
