"""`bonepipe convert IN -o OUT --to FORMAT`: annotations of one tool to those of another."""

from collections.abc import Sequence
from pathlib import Path

from bonepipe.cli.arguments import make_parser

NAMES = ("coco", "labelme", "cvat", "label-studio", "masks", "competition", "table")
SUMMARY = """\
Convert annotations between labelling tools, and predictions into them:
  coco           instances JSON, polygons and run lengths
  labelme        a folder of JSON, one an image, polygons and masks
  cvat           "CVAT for images 1.1" XML, polygons and masks
  label-studio   JSON export, polygons and brush
  masks          a folder with NAME/CLASS.png, as `bonepipe predict` writes
  competition    a dataset folder to train on (train/DCM, train/outputs_json), or a folder of its JSON
  table          CSV of run lengths (image_name,class,rle): predictions.csv, oof.csv, submission.csv
Overlapping classes and several parts of a class are kept. What a format cannot hold is said with its count.
A table has no sizes: --images is needed, and good for any other, as some files claim wrong ones."""
EXAMPLES = """
bonepipe convert data/phantom -o hands.json --to coco
bonepipe convert runs/demo/submission.csv --images data/phantom/test/DCM -o hands.xml --to cvat --shapes polygons
bonepipe convert instances.json --images pictures -o data/mine --to competition"""


def main(words: Sequence[str]) -> int:
    """Convert, and say what could not be kept."""
    parser = make_parser("convert", SUMMARY, examples=EXAMPLES)
    add = parser.add_argument
    add("source", metavar="IN", type=Path, help="a file or a folder")
    add("-o", "--output", metavar="OUT", type=Path, required=True, help="the file or folder to write")
    add("--to", metavar="FORMAT", choices=NAMES, required=True, help="one of those above")
    add("--from", metavar="FORMAT", dest="of", choices=NAMES, help="of IN (default: told by its content)")
    add("--images", metavar="FOLDER", type=Path, help="the radiographs, in any subfolders")
    add("--classes", metavar="A,B,...", default="", help="these classes first, in this order")
    as_is = "draw all as outlines or as masks (default: as they are)"
    add("--shapes", choices=("polygons", "masks"), help=as_is)
    add("--patient", metavar="REGEX", help="competition: its first group is the patient (default: the image's folder)")
    add("--copy", action="store_true", help="competition: copy the images (default: symbolic links)")
    add("--limits", metavar="NAME=N,...", help="of files that are larger than data.limits: pixels, outlines, points")
    add("--force", action="store_true", help="replace a file that is there")
    given = vars(parser.read(words))
    from bonepipe.data.limits import parse
    from bonepipe.pipeline.convert import convert

    source, out, to = given.pop("source"), given.pop("output"), given.pop("to")
    given.pop("overrides")
    limits = parse(given.pop("limits"))
    classes = list(filter(None, given.pop("classes").split(",")))
    data, notes = convert(source, out, to, classes=classes, limits=limits, **given)
    for message, times in notes.items():
        if times:
            print(f"{times} {message}")
    shapes = sum(len(image.shapes) for image in data.images)
    print(f"wrote {out}: {len(data.images)} images, {len(data.classes)} classes, {shapes} shapes")
    return 0
