"""`bonepipe doctor`: audit a dataset."""

from collections.abc import Sequence

from bonepipe.cli.arguments import make_parser

SUMMARY = """\
Audit a dataset and its fold file without changing anything. Each problem is named with its file: an error would make
training or the submission fail, a warning is worth a look. The exit code is 1 where there is an error.
`bonepipe eda` shows the dataset itself."""
KEYS = ("data", "folds")
EXAMPLES = "bonepipe doctor data=hand data.root=/data/hand"


def main(words: Sequence[str]) -> int:
    """Audit the dataset and print the report; exit code 1 where there is an error."""
    parser = make_parser("doctor", SUMMARY, keys=KEYS, examples=EXAMPLES)
    parser.add_argument("--all", action="store_true", help="list every problem (default: the first 20 of a kind)")
    given = parser.read(words)
    from bonepipe.config import compose
    from bonepipe.data.audit import audit
    from bonepipe.pipeline.experiment import Experiment
    from bonepipe.report import audit as report
    from bonepipe.screen import say

    experiment = Experiment(compose(given.overrides, uses=("data", "folds")))
    findings = audit(experiment.data, experiment.folds)
    print(report.text(experiment.data.root, findings, everything=given.all), flush=True)
    say("`bonepipe eda` with the same words shows the dataset as a page")
    return int(any(finding.severity == "error" for finding in findings))
