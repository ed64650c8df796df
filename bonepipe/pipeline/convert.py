"""Annotations of one tool to those of another."""

from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from bonepipe.data.formats import FORMATS, guess
from bonepipe.data.formats.folder import Images
from bonepipe.data.formats.model import Annotated, Dataset, Notes, as_masks, as_polygons
from bonepipe.data.limits import DEFAULTS, Limits
from bonepipe.errors import BonepipeError, UsageError
from bonepipe.files import appearing


def convert(
    source: Path,
    out: Path,
    to: str,
    *,
    of: str | None = None,
    images: Path | None = None,
    classes: Sequence[str] = (),
    shapes: str | None = None,
    patient: str | None = None,
    copy: bool = False,
    force: bool = False,
    limits: Limits = DEFAULTS,
) -> tuple[Dataset, Notes]:
    """Read annotations and write them in another format; OUT appears whole or not at all.

    Args:
        of: the format of `source`; guessed if not given.
        images: folder of the radiographs, which tell their sizes.
        classes: that come first, in this order.
        shapes: `polygons` traces masks, `masks` fills outlines; None leaves them as they are.
        patient, copy: see `bonepipe.data.formats.competition.write`.
        force: replace a file that is there.
        limits: how large images and annotations may be.

    Returns:
        What was written, and what could not be kept.

    Raises:
        BonepipeError: bad input, or OUT exists.
    """
    if to != "competition" and (patient is not None or copy):
        raise UsageError("--patient and --copy are for --to competition")
    folder = FORMATS[to].folder
    if out.exists() and (folder or out.is_dir() or not force):
        way_out = "name another, or remove it first" if folder or out.is_dir() else "name another, or --force"
        raise BonepipeError(f"{out} exists already and is left as it is; {way_out}")
    notes: Notes = Counter()
    read = FORMATS[of or guess(source)].read
    data = read(source, Images(images, notes, limits), notes)
    if not data.images:
        raise BonepipeError(f"{source}: no annotated images in it")
    drawn = [_drawn(image, shapes, notes) for image in data.images]
    data = Dataset(drawn, list(dict.fromkeys([*classes, *data.classes])))
    write = FORMATS[to].write if to != "competition" else partial(FORMATS[to].write, patient=patient, copy=copy)
    out.parent.mkdir(parents=True, exist_ok=True)
    if not folder:
        write(data, out, notes)
        return data, notes
    with appearing(out) as part:
        write(data, part, notes)
    return data, notes


def _drawn(image: Annotated, shapes: str | None, notes: Notes) -> Annotated:
    if shapes is None:
        return image
    return as_masks(image) if shapes == "masks" else as_polygons(image, notes)
