"""`bonepipe export RUN -o model.onnx`: a finished run as one file that predicts without bonepipe."""

import time
from collections.abc import Sequence
from pathlib import Path

from bonepipe.cli.arguments import make_parser

SUMMARY = """\
Write a finished run, or an ensemble of runs of one size, as one file: normalisation, the models of all folds and all
views, averaged in one graph. The suffix of the file tells the format:
  model.onnx   for ONNX Runtime, OpenVINO, TensorRT, ... (pip install 'bonepipe[export]')
  model.pt2    a program of torch.export, for torch alone
It takes grey bytes `image` uint8 [N, 1, h, w] and gives `probabilities` float32 [N, C, h, w], h x w being the size that
the run sees; with --any-size any, and the probabilities at that size. Class names, thresholds, size, fit and what is
not in the graph (post-processing, a CRF) are in its metadata. The file is compared with the pipeline on an image before
it is put in place. docs/export.md has a script that runs it without bonepipe."""
KEYS = ("prediction", "data.root")
EXAMPLES = """\
bonepipe export runs/demo -o model.onnx                # all folds and views
bonepipe export runs/demo -o fold-0.onnx --fold 0      # one model: five times as fast
bonepipe export runs/best -o best.pt2 --any-size       # an ensemble; resizing is in the graph"""


def main(words: Sequence[str]) -> int:
    """Write it and say what it holds."""
    parser = make_parser("export", SUMMARY, keys=KEYS, examples=EXAMPLES)
    parser.add_argument("run", metavar="RUN", type=Path, help="the folder of a finished run or ensemble, runs/NAME")
    parser.add_argument("-o", "--output", metavar="FILE", type=Path, required=True, help="model.onnx or model.pt2")
    parser.add_argument("--fold", metavar="K", type=int, help="this fold's model alone (default: as the run predicts)")
    parser.add_argument("--any-size", action="store_true", help="images of any size; resizing is in the graph")
    given = parser.read(words)
    from bonepipe.pipeline.export import export, open_exportable, require_format

    start = time.monotonic()
    require_format(given.output)
    predictor = open_exportable(given.run, given.fold, given.overrides)
    written = export(predictor, given.output, any_size=given.any_size)
    seconds = time.monotonic() - start
    print(f"wrote {given.output}: {written.passes}, {written.size / 1e6:.1f} MB, in {seconds:.0f} s")
    print(
        f"{written.image}: probabilities differ from the pipeline's by {written.difference:.1g} at most, "
        f"masks agree with Dice {written.dice:.6f}"
    )
    return 0
