"""`bonepipe view`: images, true masks and predictions in the browser."""

from collections.abc import Sequence
from pathlib import Path

from bonepipe.cli.arguments import make_parser

SUMMARY = """\
Browse a dataset in the browser: images, annotations and the masks of runs and CSVs side by side.

RUN is the folder of a run, an ensemble or a cascade; a CSV has the columns image_name,class,rle. Without any, the run
of the experiment is shown, or the annotations alone where nothing is trained yet. The page filters by class, Dice,
patient, stratum and fold, goes to the worst images of a class, zooms to native pixels, shows where masks differ from
the truth, and steps through the candidates of `bonepipe label-errors`; what you accept or reject there is written to
the first run's corrections.csv (or --corrections FILE), which data.corrections takes. Nothing else is ever written.
`?` lists the keys; the address holds the view, so it can be bookmarked.

It listens on 127.0.0.1 alone, for whoever works on this machine. From another one: ssh -L 8321:127.0.0.1:8321 HOST.
Needs pip install 'bonepipe[view]'."""
KEYS = ("name", "runs", "data.root")
EXAMPLES = """\
bonepipe view experiment=demo
bonepipe view runs/demo runs/longer vote.csv
bonepipe view predictions.csv data.root=data/hands --port 9000 --no-browser"""


def main(words: Sequence[str]) -> int:
    """Open, serve, until stopped."""
    parser = make_parser("view", SUMMARY, keys=KEYS, examples=EXAMPLES)
    parser.add_argument("paths", metavar="RUN_OR_CSV", type=Path, nargs="*", help="whose masks to show")
    parser.add_argument("--port", type=int, metavar="N", help="where to listen; 8321, or one that is free")
    parser.add_argument("--no-browser", action="store_true", help="do not open a window, print the address only")
    parser.add_argument("--corrections", metavar="FILE", type=Path, help="where decisions about annotations go")
    given = parser.read(words)
    from bonepipe.pipeline.view import open_gallery, require_packages
    from bonepipe.screen import say

    require_packages()
    opened = open_gallery(given.paths, given.overrides, given.corrections)
    from bonepipe.report.view import server
    from bonepipe.report.view.app import Viewer

    listening = server.listen(given.port)
    names = ", ".join(source.name for source in opened.gallery.sources) or "no predictions yet: annotations alone"
    say(f"{len(opened.gallery.images)} images of {opened.gallery.spec.root}; {names}")
    print(server.address(listening), flush=True)
    say("Ctrl-C ends it")
    server.serve(Viewer(opened.gallery, opened.review, opened.hint), listening, browser=not given.no_browser)
    return 0
