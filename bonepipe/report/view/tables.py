"""What the browser is told of a gallery, as plain values: a row an image, and an image's outlines."""

from collections.abc import Sequence
from typing import Any

from bonepipe.data.catalog import Radiograph
from bonepipe.data.spec import DataSpec
from bonepipe.labels import cutout
from bonepipe.labels.cutout import Cutout
from bonepipe.report import overlay
from bonepipe.report.view import outlines
from bonepipe.report.view.gallery import Gallery, scores
from bonepipe.report.view.pictures import SIZES, TILE

DARKEST = 150  # the brightest of red, green and blue of a colour that shows on black


def index(gallery: Gallery) -> dict[str, Any]:
    """All images with what they can be filtered by, the classes with their colours, and the sources."""
    spec = gallery.spec
    colours = map(overlay.css, _colours(spec))
    return {
        "title": spec.name,
        "sizes": SIZES,
        "tile": TILE,
        "classes": [{"name": name, "colour": colour} for name, colour in zip(spec.classes, colours, strict=True)],
        "sources": [source.name for source in gallery.sources],
        "images": [_row(gallery, image) for image in gallery.images],
    }


def _colours(spec: DataSpec) -> list[overlay.Colour]:
    """The dataset's colours; distinct ones where some of them would not show on black."""
    shown = all(max(colour) >= DARKEST for colour in spec.palette)
    return overlay.palette(len(spec.classes), spec.palette if shown else ())


def _row(gallery: Gallery, image: Radiograph) -> dict[str, Any]:
    facts = {key: getattr(image, key) for key in ("name", "patient", "split", "side", "age", "sex")}
    places = {"stratum": gallery.strata.get(image.name), "fold": gallery.folds.get(image.name)}
    return {key: value for key, value in {**facts, **places}.items() if value is not None}


def dice(gallery: Gallery) -> list[list[list[float | None] | None]]:
    """Dice of each source, image and class; None for an image whose masks or truth are not known."""
    return [[_rounded(source.dice.get(image.name)) for image in gallery.images] for source in gallery.sources]


def _rounded(values: Sequence[float | None] | None) -> list[float | None] | None:
    return None if values is None else [None if value is None else round(value, 4) for value in values]


def masks(gallery: Gallery, number: int, source: int | None) -> dict[str, Any]:
    """An image's outlines by a source, or the true ones: of each class that is there its path, box, area and Dice.

    Returns:
        `height`, `width`; `known`: whether there are any masks at all; `classes`: class number -> what is known of it.
    """
    truth = gallery.truth(number)
    shown = truth if source is None else gallery.predicted(number, source)
    height, width = gallery.shape(number)
    compared = None if source is None or truth is None or shown is None else scores(truth, shown)
    rows = {label: _drawn(mask) for label, mask in enumerate(shown or ()) if mask.mask.any()}
    for label, value in enumerate(compared or ()):
        if label in rows or (truth and truth[label].mask.any()):
            rows.setdefault(label, {})["dice"] = None if value is None else round(value, 4)
    return {"height": height, "width": width, "known": shown is not None, "classes": rows}


def _drawn(mask: Cutout) -> dict[str, Any]:
    return {"path": outlines.path(mask), "box": list(mask.box), "area": cutout.area(mask)}


def differences(gallery: Gallery, number: int, source: int) -> dict[str, Any]:
    """Where a source's masks differ from the true ones: of each class the paths of `missed` and `excess` pixels."""
    truth, predicted = gallery.truth(number), gallery.predicted(number, source)
    rows = {}
    for label, pair in enumerate(zip(truth or (), predicted or (), strict=False)):
        missed, excess = (outlines.path(part) for part in outlines.difference(*pair))
        if missed or excess:
            rows[label] = {"missed": missed, "excess": excess}
    return {"known": truth is not None and predicted is not None, "classes": rows}
