"""A survey of real files against plain calculations."""

import shutil
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest

from bonepipe.config import build, compose
from bonepipe.data.catalog import read_catalog
from bonepipe.data.limits import Limits
from bonepipe.data.survey import SIZES, detail, survey
from bonepipe.labels import bitplane, polygon


@pytest.fixture(scope="module")
def spec(chest_root):
    return build(
        compose(["data=chest", "~experiment", f"data.root={chest_root}", "data.size=48"], uses=["data"]), "data"
    )


@pytest.fixture(scope="module")
def found(spec):
    return survey(read_catalog(spec), spec)


def masks_of(row, spec):
    from bonepipe.data.annotation import read_annotation

    planes = polygon.rasterise(read_annotation(row.image.annotation, spec.classes), row.shape, len(spec.classes))
    return bitplane.unpack(planes, len(spec.classes))


def test_areas_boxes_and_overlaps_are_those_of_the_masks(found, spec):
    assert len(found.annotated) == 12
    for row in found.annotated:
        masks = masks_of(row, spec)
        assert row.labels.areas.tolist() == masks.sum((0, 1)).tolist()
        for a, b in combinations(range(5), 2):
            assert row.labels.shared[a, b] == row.labels.shared[b, a] == (masks[..., a] & masks[..., b]).sum()
        for number, box in enumerate(row.labels.boxes.tolist()):
            rows, columns = np.nonzero(masks[..., number])
            assert box == [rows.min(), columns.min(), rows.max() + 1, columns.max() + 1]


def test_annotations_are_read_within_the_limits_of_the_dataset(spec):
    within, beyond = (replace(spec, limits=Limits(outlines=most)) for most in (1000, 1))
    assert len(survey(read_catalog(within)[:2], within).annotated) == 2
    assert len(survey(read_catalog(beyond)[:2], beyond).annotated) == 0


def test_ceilings_are_known_at_the_usual_sizes_and_at_that_of_the_training(found):
    assert found.sizes == (48, *SIZES)
    ceilings = found.stacked("ceilings")
    assert ceilings.shape == (12, 5, 5)
    assert (ceilings[:, 1:] == 1).all()  # the images are smaller than 256 pixels
    assert (ceilings[:, 0] > 0.8).all()
    assert (ceilings[:, 0] < 1).all()


def test_grey_values_are_counted(found):
    row = found.of("test")[0]
    grey = row.image.read()
    assert row.labels is None
    assert row.greys.tolist() == np.bincount(grey.ravel(), minlength=256).tolist()
    assert row.traits["mean grey"] == pytest.approx(grey.mean())
    assert row.traits["height / width"] == grey.shape[0] / grey.shape[1]


def test_a_blurred_image_has_less_detail():
    import cv2

    sharp = np.random.default_rng(0).integers(0, 255, (200, 300)).astype(np.uint8)
    assert detail(cv2.GaussianBlur(sharp, (0, 0), 3)) < 0.5 * detail(sharp)


def test_what_cannot_be_read_is_left_out_and_counted(chest_root, tmp_path, spec):
    root = shutil.copytree(chest_root, tmp_path / "data")
    image, annotation = sorted(root.glob("train/DCM/*/*.png"))[0], sorted(root.glob("train/outputs_json/*/*.json"))[-1]
    image.write_bytes(b"no image")
    annotation.write_text("{")
    from dataclasses import replace

    damaged = replace(spec, root=str(root))
    result = survey(read_catalog(damaged), damaged)
    assert result.unread == 1
    assert len(result.images) == 15
    assert len(result.annotated) == 10


def test_processes_find_what_one_finds(found, spec, monkeypatch):
    monkeypatch.setenv("BONEPIPE_CORES", "2")
    images = read_catalog(spec)
    several = survey(images * 2, spec)  # enough for processes
    for one, other in zip([*found.images, *found.images], several.images, strict=True):
        assert one.traits == other.traits
        assert (one.labels is None) == (other.labels is None)
        if one.labels is not None:
            np.testing.assert_array_equal(one.labels.ceilings, other.labels.ceilings)
