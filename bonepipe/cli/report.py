"""`bonepipe report`: an experiment, or several runs side by side, as one page."""

from collections.abc import Sequence
from pathlib import Path

from bonepipe.cli.arguments import make_parser
from bonepipe.errors import UsageError

SUMMARY = """\
Write one self-contained HTML page of an experiment, to open in any browser, without network: runs/NAME/report.html.
  Dice by class     by fold, by size of the object, by stratum
  best and worst    truth, prediction and where they differ; the single bones that went worst
  mistakes          outlines off in pixels (millimetres where DICOM headers tell), neighbours taken for each other
  thresholds        Dice at every threshold with the choice, and what it gains
  calibration       what a probability is worth
  learning, costs   curves with the folds as a band, time of the parts, parameters, operations
  leaderboard       cross-validation against leaderboard over the runs beside it
RUN is the folder of a run, an ensemble or a cascade. Of several, one page shows them side by side: scores, settings
that differ, what changed image by image. Nothing is trained; a report whose files have not changed is kept.
The page holds pictures of the dataset: share it as you would share those."""
KEYS = ("name", "runs", "data.root")
EXAMPLES = """\
bonepipe report experiment=demo
bonepipe report runs/best data.root=/data/hand
bonepipe report runs/demo runs/wider -o runs/wider-or-not.html"""


def main(words: Sequence[str]) -> int:
    """Read, draw, write."""
    parser = make_parser("report", SUMMARY, keys=KEYS, examples=EXAMPLES)
    parser.add_argument("runs", metavar="RUN", nargs="*", type=Path, help="folders; without any, that of the settings")
    place = "the page of several runs (default: report.html beside the first)"
    parser.add_argument("-o", "--output", metavar="FILE.html", type=Path, help=place)
    given = parser.read(words)
    if strange := [word for word in given.overrides if given.runs and not word.startswith("data.root=")]:
        raise UsageError(f"{strange[0]}: beside a RUN only data.root=... is taken: it has its settings")
    if given.overrides and len(given.runs) > 1:
        raise UsageError(f"{given.overrides[0]}: is for one run; the pages of several show no pictures of the dataset")
    if given.output and len(given.runs) < 2:
        raise UsageError("-o is for several runs; that of one goes to its folder")
    from bonepipe.config import compose, recompose
    from bonepipe.pipeline import run_folder, run_report
    from bonepipe.pipeline.experiment import Experiment
    from bonepipe.screen import tell_next

    if len(given.runs) > 1:
        output = given.output or given.runs[0].parent / run_report.REPORT
        run_report.write_comparison(given.runs, output)
    elif given.runs:
        config = recompose(run_folder.recorded_config(given.runs[0]), given.overrides, ("data",))
        output = run_report.write_report(given.runs[0], config["data"]["root"] if given.overrides else None)
    else:
        experiment = Experiment(compose(given.overrides, checked=False))
        output = run_report.write_report(experiment.folder, experiment.config["data"]["root"])
    tell_next(output)
    return 0
