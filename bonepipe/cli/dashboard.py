"""`bonepipe dashboard RUN`: a saved view of a run on Weights & Biases."""

from collections.abc import Sequence
from pathlib import Path

from bonepipe.cli.arguments import make_parser

SUMMARY = """\
Save a view of a run's group on Weights & Biases and print its link: scores of the cross-validation, curves of all folds
by epoch, Dice by class, thresholds, overlays, costs.

It needs a key (`wandb login`, or the variable WANDB_API_KEY) and the package wandb-workspaces
(`pip install 'bonepipe[dashboard]'`). What was tracked offline is uploaded by `bonepipe sync`."""
EXAMPLES = """
bonepipe dashboard runs/demo
bonepipe sync runs/demo && bonepipe dashboard runs/demo"""


def main(words: Sequence[str]) -> int:
    """Save the view."""
    parser = make_parser("dashboard", SUMMARY, examples=EXAMPLES)
    parser.add_argument("run", metavar="RUN", type=Path, help="runs/NAME")
    given = parser.read(words)
    from bonepipe.pipeline.dashboard import save

    print(save(given.run))
    return 0
