"""`bonepipe check SUB.csv --data ROOT`: whether a CSV is a valid submission for a test set."""

from collections.abc import Sequence

from bonepipe.cli.arguments import make_parser

LISTED = 100  # faults printed; one missing image alone makes as many as there are classes

SUMMARY = """\
Check a submission against a test set.

A valid submission has exactly the columns image_name,class,rle and one row for every image below ROOT/test, in sorted
path order, and every class, in the order of conf/data. Runs are `start length` pairs, 1-indexed and row-major, sorted,
disjoint and inside the image. Every fault is printed with its line in the file (the header is line 1).
Exit code 0 when valid, 1 when not."""
EXAMPLES = "bonepipe check runs/demo/submission.csv --data data/phantom"


def main(words: Sequence[str]) -> int:
    """Check and print each fault."""
    parser = make_parser("check", SUMMARY, examples=EXAMPLES)
    parser.add_argument("submission", metavar="SUB.csv", help="the file to check")
    parser.add_argument("--data", metavar="ROOT", required=True, help="the dataset's folder")
    what = "take classes and test images of conf/data/NAME.yaml (default: the classes that fit the labels in ROOT)"
    parser.add_argument("--classes", metavar="data/NAME", help=what)
    parser.add_argument("--limits", metavar="NAME=N,...", help="of images that are larger than data.limits: pixels")
    given = parser.read(words)
    from bonepipe.data import submission
    from bonepipe.data.catalog import known_classes, named_form, test_images
    from bonepipe.data.limits import parse

    table, limits = submission.read(given.submission), parse(given.limits)
    named = named_form(given.classes, given.data, limits) if given.classes else None
    images = {image.name: image.shape() for image in test_images(named or given.data, limits)}
    classes = named.classes if named else known_classes(given.data, limits)
    faults = submission.faults(table, images, classes)
    for fault in faults[:LISTED]:
        print(f"{table.path}: {fault}")
    if len(faults) > LISTED:
        print(f"... and {len(faults) - LISTED} more")
    if not faults:
        print(f"ok: {table.path} has {len(table.rows)} rows for {len(images)} images and {len(classes)} classes")
    return 1 if faults else 0
