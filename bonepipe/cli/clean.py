"""`bonepipe clean`: delete an experiment's results."""

from collections.abc import Sequence

from bonepipe.cli.arguments import make_parser

SUMMARY = """\
Delete the results of one experiment, runs/NAME: exactly the folder that `bonepipe submit` with the same words would
write. Data, fold files, image stores and other experiments stay."""
KEYS = ("name", "runs")
EXAMPLES = "bonepipe clean experiment=demo name=wider"


def main(words: Sequence[str]) -> int:
    """Delete the folder."""
    given = make_parser("clean", SUMMARY, keys=KEYS, examples=EXAMPLES).read(words)
    from bonepipe.config import compose
    from bonepipe.pipeline.experiment import Experiment
    from bonepipe.pipeline.run_folder import delete

    folder = Experiment(compose(given.overrides, checked=False)).folder
    print(f"{folder}: deleted" if delete(folder) else f"{folder}: is not there, nothing to delete")
    return 0
