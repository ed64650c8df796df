"""`bonepipe eda`: a dataset as one page."""

from collections.abc import Sequence
from pathlib import Path

from bonepipe.cli.arguments import make_parser

SUMMARY = """\
Look at a dataset: one self-contained HTML page, to open in any browser, without network. It shows
  samples     train images with their outlines, test images, at both ends of the range
  classes     how often each is there, its pixels, its size, which overlap
  resolution  the Dice that a perfect prediction would get at 256 to 1536 pixels, and at data.size
  patients    age, sex, height and weight, and what goes with bone size
  sides       left and right, wrists that are bent sideways
  shift       in what test images differ from train images
  duplicates  images that show one picture twice
  findings    what `bonepipe doctor` found
Each figure says what to take from it. The page holds pictures of the dataset: share it as you would share those.
800 images of 2048 pixels take a minute or two on two cores."""
KEYS = ("data", "runs")
EXAMPLES = """\
bonepipe eda data.root=/data/hand
bonepipe eda experiment=chest data.root=/data/chest -o chest.html"""


def main(words: Sequence[str]) -> int:
    """Measure, audit, write."""
    parser = make_parser("eda", SUMMARY, keys=KEYS, examples=EXAMPLES)
    place = "the page (default: RUNS/eda-NAME.html, of runs= and data.name=)"
    parser.add_argument("-o", "--output", metavar="FILE.html", type=Path, help=place)
    given = parser.read(words)
    from bonepipe.config import compose
    from bonepipe.data.audit import audit
    from bonepipe.data.catalog import read_catalog
    from bonepipe.data.survey import survey
    from bonepipe.pipeline.experiment import Experiment
    from bonepipe.report import eda
    from bonepipe.report.page import write
    from bonepipe.screen import tell_next

    experiment = Experiment(compose(given.overrides, uses=("data", "folds")))
    data = experiment.data
    path = given.output or Path(experiment.config["runs"]) / f"eda-{data.name}.html"
    images = read_catalog(data)
    write(path, eda.page(survey(images, data), audit(data, experiment.folds), data))
    tell_next(path)
    return 0
