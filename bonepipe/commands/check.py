"""`bonepipe check SUB.csv --data ROOT`: whether a CSV is a valid submission for a test set."""

import argparse

from bonepipe.data import submission
from bonepipe.data.catalog import known_classes, test_images
from bonepipe.data.image import read_shape
from bonepipe.errors import UsageError

LISTED = 100  # faults printed; one missing image alone makes as many as there are classes

EPILOG = """\
A valid submission has exactly the columns image_name,class,rle and one row for every image below ROOT/test, in sorted
path order, and every class, in the order of conf/data. Runs are `start length` pairs, 1-indexed and row-major, sorted,
disjoint and inside the image. Every fault is printed with its line in the file (the header is line 1).
Exit code 0 when valid, 1 when not.

example:
  bonepipe check runs/demo/submission.csv --data data/phantom
"""


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    result = argparse.ArgumentParser(
        "bonepipe check",
        description="Check a submission against a test set.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    result.add_argument("submission", metavar="SUB.csv", help="the file to check")
    result.add_argument("--data", metavar="ROOT", required=True, help="the dataset's folder")
    result.add_argument(
        "--classes",
        metavar="data/NAME",
        help="take the class list of conf/data/NAME.yaml (default: the one that fits the labels in ROOT/train)",
    )
    return result


def named_classes(name: str) -> list[str]:
    """Read the class list of a data config, named like `hand` or `data/hand`."""
    import yaml

    from bonepipe.config import conf_dir

    path = conf_dir() / "data" / f"{name.removeprefix('data/')}.yaml"
    if not path.is_file():
        raise UsageError(f"--classes {name}: no file {path}")
    classes = yaml.safe_load(path.read_text(encoding="utf-8")).get("classes")
    if not classes:
        raise UsageError(f"--classes {name}: {path} has no list of classes")
    return list(classes)


def main(argv: list[str]) -> int:
    """Check and print each fault."""
    arguments = parser().parse_args(argv)
    table = submission.read(arguments.submission)
    images = {image.name: read_shape(image.path) for image in test_images(arguments.data)}
    classes = named_classes(arguments.classes) if arguments.classes else known_classes(arguments.data)
    faults = submission.faults(table, images, classes)
    for fault in faults[:LISTED]:
        print(f"{table.path}: {fault}")
    if len(faults) > LISTED:
        print(f"... and {len(faults) - LISTED} more")
    if not faults:
        print(f"ok: {table.path} has {len(table.rows)} rows for {len(images)} images and {len(classes)} classes")
    return 1 if faults else 0
