"""`bonepipe predict IMAGE_OR_FOLDER... -o OUT`: masks of any radiographs from anything finished."""

from collections.abc import Sequence
from pathlib import Path

from bonepipe.cli.arguments import make_parser

SUMMARY = """\
Predict radiographs of any size (PNG, JPEG, TIFF, BMP; 8 or 16 bit; DICOM with `pip install 'bonepipe[dicom]'`) with all
models and views of a finished experiment or, with --run, of any run, ensemble or cascade. Writes into OUT:
  overlays/NAME.jpg        the masks drawn over the image
  masks/NAME/CLASS.png     one mask a class: 255 inside, 0 outside
  polygons/NAME.json       the outlines in the annotation format, to be corrected in a labelling tool; parts of a class
                           are several polygons of its label, and holes are filled, as a polygon cannot have any;
                           `attributes` has the pixel spacing in mm where a DICOM header tells it; corrected ones stay,
                           or are moved to corrected/ when --force replaces them by another prediction
  predictions.csv          all masks in OUT as run lengths (image_name,class,rle), of earlier calls too
Images that are finished are not predicted again unless --force."""
KEYS = ("name", "runs", "device", "prediction")
EXAMPLES = """\
bonepipe predict hand.png more/ -o predicted experiment=demo
bonepipe predict more/ -o predicted --run runs/demo-wrist
bonepipe predict study/IM0001 study/hand.dcm -o predicted"""


def main(words: Sequence[str]) -> int:
    """Predict what is not predicted yet, then write the table of all."""
    parser = make_parser("predict", SUMMARY, keys=KEYS, examples=EXAMPLES, run=True)
    parser.add_argument(
        "images",
        metavar="IMAGE_OR_FOLDER",
        nargs="+",
        help="a folder is searched for images",
    )
    parser.add_argument("-o", "--output", metavar="OUT", type=Path, required=True, help="the folder to write")
    parser.add_argument("--force", action="store_true", help="predict finished images again")
    parser.add_argument(
        "--negative",
        action="store_true",
        help="the images are negatives: exchange dark and bright",
    )
    given = parser.read(words)
    from bonepipe.pipeline.images import find_images, predict
    from bonepipe.pipeline.predictors.opening import open_predictor
    from bonepipe.screen import tell_next

    images = find_images([Path(name) for name in given.images], given.output, negative=given.negative)
    count, rows = predict(open_predictor(given.run, given.overrides), images, given.output, force=given.force)
    print(f"wrote {given.output}: {count} images, {rows} masks")
    tell_next(given.output / "overlays")
    return 0
