"""`bonepipe sync RUN...`: upload to Weights & Biases what was tracked offline."""

from collections.abc import Sequence
from pathlib import Path

from bonepipe.cli.arguments import make_parser

SUMMARY = """\
Upload to Weights & Biases the runs that were tracked offline, oldest first, and print their links.

It needs a key (`wandb login`, or the variable WANDB_API_KEY) and uses W&B's own client. An interrupted and resumed run
arrives as one. What was uploaded is passed over, and what could not be is left for the next call: the exit code is then
1. Copies that W&B had made for uploading are deleted. A run in which somebody works is passed over likewise."""
EXAMPLES = """
bonepipe sync runs/demo
bonepipe sync runs/               # all of them
WANDB_BASE_URL=https://wandb.example.org bonepipe sync runs/demo runs/best"""


def main(words: Sequence[str]) -> int:
    """Upload and print."""
    parser = make_parser("sync", SUMMARY, examples=EXAMPLES)
    parser.add_argument("runs", metavar="RUN", nargs="+", type=Path, help="runs/NAME, or a folder of runs")
    given = parser.read(words)
    from tqdm import tqdm

    from bonepipe.errors import BonepipeError
    from bonepipe.pipeline.sync import check_login, find_trackings, sync
    from bonepipe.screen import say

    trackings = find_trackings(given.runs)
    check_login()
    faults = []
    for run in trackings:
        try:
            known = sync(run, tqdm.write)
        except BonepipeError as error:  # the next run may do
            faults.append(error)
            say(str(error))
            continue
        if known:
            print(f"{run.name}: {known} uploaded before")
    return int(bool(faults))
