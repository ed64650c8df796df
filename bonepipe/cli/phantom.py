"""`bonepipe phantom`: write a synthetic dataset in the competition's format."""

import time
from collections.abc import Sequence
from pathlib import Path

from bonepipe.cli.arguments import make_parser
from bonepipe.data.phantom import PLANTED_SHARE
from bonepipe.errors import UsageError

SUMMARY = """\
Write a dataset of synthetic hand radiographs in the competition's layout: two hands a patient, annotations for the
train patients, meta_data.xlsx, and three lists the real data has not: answer.csv (masks of the test images),
planted.csv (annotations that are wrong on purpose) and rotated.csv (patients with the wrist bent sideways).
The same seed gives the same bytes, whatever the number of workers."""
EXAMPLES = "bonepipe phantom data/phantom --patients 40 --test-patients 12 --size 1024"


def main(words: Sequence[str]) -> int:
    """Write the dataset."""
    parser = make_parser("phantom", SUMMARY, examples=EXAMPLES)
    add = parser.add_argument
    add("out", type=Path, metavar="OUT", help="folder to make; it must not exist yet")
    add("--patients", type=int, required=True, metavar="N", help="train patients (the real set has 400)")
    add("--test-patients", type=int, required=True, metavar="M", help="test patients (the real set has 144)")
    add("--size", type=int, default=2048, metavar="S", help="side of the images in pixels (%(default)s)")
    add("--seed", type=int, default=0, metavar="K", help="draws everything (%(default)s)")
    add(
        "--planted", type=float, default=PLANTED_SHARE, metavar="P",
        help="share of the train images whose annotation is wrong on purpose: 3 at least, none with fewer than 20 "
        "patients; the images stay the same (%(default)s)",
    )  # fmt: skip
    add("--workers", type=int, metavar="W", help="processes (default: one a CPU; 1: none beside this one)")
    given = parser.read(words)
    if given.seed < 0:
        raise UsageError(f"--seed {given.seed}: must be 0 or more")
    if not 0 <= given.planted <= 0.5:
        raise UsageError(f"--planted {given.planted:g}: from 0 to 0.5, as one hand of a patient is spoiled at most")
    from bonepipe.data.phantom.dataset import write_dataset
    from bonepipe.screen import say

    start = time.perf_counter()
    numbers = given.patients, given.test_patients, given.size, given.seed, given.workers
    write_dataset(given.out, *numbers, planted=given.planted)
    images = 2 * (given.patients + given.test_patients)
    print(f"{given.out}: {images} images of {given.size} x {given.size} in {time.perf_counter() - start:.1f} s")
    say(f"`bonepipe eda data.root={given.out}` shows them as a page")
    return 0
