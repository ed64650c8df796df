"""`bonepipe select RUN...`: which finished runs to average, and with which weights."""

import json
from collections.abc import Sequence
from pathlib import Path

from bonepipe.cli.arguments import make_parser
from bonepipe.errors import UsageError

SUMMARY = """\
Choose which finished runs to average, from what they predicted out of fold. RUN is the folder of a finished run
(runs/NAME). The runs may differ in everything but the classes: model, size, seed, loss, views. Three things are done:
  1. every run alone and every pair is scored: mean out-of-fold Dice over images and classes
  2. greedy search (Caruana et al., ICML 2004): starting from the best run, the run that helps most is added again and
     again, up to --steps; a run that is added twice weighs twice. Of all these mixtures the simplest is taken that the
     best one beats by no more than noise: fewer runs first, then fewer steps
  3. all of this is repeated without each fold and scored on the fold that was left out. What remains of the gain over
     the best single run is what other data will see; below --margin standard errors the single run stays
With --per-class a class gets a mixture of its own where that gains more than noise over the common one, by the same
test. The result is OUT/ensemble.yaml, a text to edit, and the command that predicts with it.

Memory: only pixels that some runs hold and others do not are kept, two bytes a run (see the first line printed).
With --thresholds, all those between the thresholds are."""
EXAMPLES = """\
bonepipe select runs/unet runs/fpn runs/seed2 -o runs/best
bonepipe select runs/unet runs/fpn -o runs/best --per-class --json"""


def main(words: Sequence[str]) -> int:
    """Choose and print."""
    parser = make_parser("select", SUMMARY, keys=("data.root",), examples=EXAMPLES, composed=False)
    add = parser.add_argument
    add("runs", metavar="RUN", nargs="+", help="two folders of finished runs or more")
    add("-o", "--output", metavar="OUT", type=Path, required=True, help="the ensemble's folder, a new one")
    add("--steps", metavar="N", type=int, default=20, help="runs in a mixture at most (default: %(default)s)")
    add("--margin", metavar="X", type=float, default=2.0, help="standard errors that a gain must exceed (%(default)g)")
    add("--per-class", action="store_true", help="let a class have a mixture of its own where that gains")
    add("--thresholds", action="store_true", help="score at each class's best threshold of 0.25 to 0.75, not at 0.5")
    add("--json", action="store_true", help="one JSON object in place of the tables")
    given = parser.read(words)
    from bonepipe.pipeline.selection import select
    from bonepipe.report.selection import as_json, report

    settings = {"steps": given.steps, "margin": given.margin}
    if strange := [word for word in given.overrides if not word.startswith("data.root=")]:
        raise UsageError(f"{strange[0]}: belongs to the runs, which are trained; here data.root can be set")
    result = select(
        given.runs, given.output, settings, given.overrides, per_class=given.per_class, thresholds=given.thresholds
    )
    print(json.dumps(as_json(result), indent=2, ensure_ascii=False) if given.json else report(result))
    return 0
