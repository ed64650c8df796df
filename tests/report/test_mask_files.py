from pathlib import Path

import cv2
import numpy as np
import pytest

from bonepipe.data.annotation import read_annotation
from bonepipe.data.spec import DataSpec
from bonepipe.errors import BonepipeError
from bonepipe.labels import bitplane, polygon
from bonepipe.labels.cutout import empty, from_mask
from bonepipe.report import masks as files

DATA = DataSpec(name="x", root="x", classes=("Radius", "Left / right", "Ulna"), size=64)
IMAGE = Path("somewhere/ID007/hand.png")
SHAPE = (150, 130)


@pytest.fixture
def drawn(tmp_path):
    """Two bones, the first of two parts, overlapping; the third is not there."""
    rows, columns = np.mgrid[: SHAPE[0], : SHAPE[1]]
    first = ((rows - 40) ** 2 + (columns - 50) ** 2 < 900) | ((rows - 120) ** 2 + (columns - 100) ** 2 < 200)
    second = (rows - 60) ** 2 / 400 + (columns - 70) ** 2 / 1600 < 1
    grey = np.random.default_rng(0).integers(0, 90, SHAPE).astype(np.uint8)
    files.write_masks(tmp_path, IMAGE, grey, [from_mask(first), from_mask(second), empty()], DATA, "mark")
    return tmp_path, grey, [first, second, np.zeros(SHAPE, bool)]


def test_masks_are_pictures_of_0_and_255(drawn):
    folder, _, expected = drawn
    for label, mask in zip(("Radius", "Left _ right", "Ulna"), expected, strict=True):
        image = cv2.imread(str(folder / "masks" / "hand" / f"{label}.png"), cv2.IMREAD_UNCHANGED)
        assert image.dtype == np.uint8
        assert (image == mask * 255).all()


def test_polygons_read_back_and_filled_are_the_masks(drawn):
    folder, _, expected = drawn
    polygons = read_annotation(folder / "polygons" / "hand.json", DATA.classes)
    assert [label for label, _ in polygons] == [0, 0, 1]
    again = bitplane.unpack(polygon.rasterise(polygons, SHAPE, 3), 3)
    for number, mask in enumerate(expected[:2]):
        dice = 2 * (again[..., number] & mask).sum() / (again[..., number].sum() + mask.sum())
        assert dice > 0.99
        assert (again[..., number] == mask).all()


def test_the_overlay_shows_the_image_and_the_masks(drawn):
    folder, grey, expected = drawn
    image = cv2.imread(str(folder / "overlays" / "hand.jpg"))
    assert image.shape == (*SHAPE, 3)
    tinted = np.ptp(image.astype(int), axis=2) > 30
    inside = expected[0] | expected[1]
    assert tinted[inside].mean() > 0.95
    far = ~cv2.dilate(inside.astype(np.uint8), np.ones((15, 15))).astype(bool)
    assert not tinted[far].any()
    assert np.abs(image[far].mean(1) - grey[far]).mean() < 20


def test_the_mark_is_that_of_files_that_are_all_there(drawn):
    folder, *_ = drawn
    assert files.read_mark(folder, IMAGE, DATA.classes) == "mark"
    (folder / "masks" / "hand" / "Ulna.png").unlink()
    assert files.read_mark(folder, IMAGE, DATA.classes) is None
    assert files.read_mark(folder, Path("other.png"), DATA.classes) is None


def test_nothing_temporary_is_left(drawn):
    names = {path.name for path in drawn[0].rglob("*") if path.is_file()}
    assert names == {"hand.jpg", "hand.json", "Radius.png", "Left _ right.png", "Ulna.png", files.MARK}


def test_corrected_polygons_are_never_lost(drawn):
    folder, grey, expected = drawn

    def predict(mark):
        moved = files.forget(folder, IMAGE, mark)
        files.write_masks(folder, IMAGE, grey, [from_mask(mask) for mask in expected], DATA, mark)
        return moved

    path = files.polygons_file(folder, IMAGE)
    written = path.read_text()
    assert predict("mark") is None
    assert path.read_text() == written
    path.write_text('{"annotations": []}')  # as a labelling tool that keeps nothing else
    assert files.read_mark(folder, IMAGE, DATA.classes) == "mark", "it is finished all the same"
    files.overlay_file(folder, IMAGE).unlink()
    assert predict("mark") is None
    assert files.overlay_file(folder, IMAGE).is_file()
    assert path.read_text() == '{"annotations": []}'
    moved = predict("other")
    assert moved is not None
    assert moved.read_text() == '{"annotations": []}'
    assert files.read_mark(folder, IMAGE, DATA.classes) == "other"
    assert len(path.read_text()) > 100
    path.write_text("{}")
    with pytest.raises(BonepipeError, match="was corrected, and so was "):
        predict("mark")
    assert path.read_text() == "{}"
