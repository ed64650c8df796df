"""A survey of real files against plain calculations."""

import shutil
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest

from bonepipe.config import build, compose
from bonepipe.data.catalog import read_catalog
from bonepipe.data.frame import Frame
from bonepipe.data.limits import Limits
from bonepipe.data.region import Region
from bonepipe.data.survey import detail, survey
from bonepipe.labels import bitplane, cutout, polygon
from bonepipe.labels.ceiling import ceiling
from bonepipe.labels.cutout import Box


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
    assert found.stacked("ceilings").shape == (12, 4, 5)
    assert (found.stacked("ceilings") == 1).all()  # the images are smaller than 256 pixels
    trained = found.stacked("trained")
    assert trained.shape == (12, 5)
    assert (trained > 0.8).all()
    assert (trained < 1).all()


def test_ceilings_of_a_size_that_is_not_square_are_those_of_its_frame(spec):
    images = [image for image in read_catalog(spec) if image.annotation][:2]
    for fit in ("pad", "stretch"):
        narrow = survey(images, replace(spec, size=(96, 32), fit=fit))
        for row, trained, scale in zip(narrow.annotated, narrow.stacked("trained"), narrow.stacked("scale"),
                                       strict=True):  # fmt: skip
            box = Frame((96, 32), fit).box(row.shape)
            masks = [cutout.from_mask(mask) for mask in masks_of(row, spec).transpose(2, 0, 1)]
            expected = [ceiling(mask, row.shape, (box.height, box.width)) for mask in masks]
            np.testing.assert_allclose(trained, expected, rtol=1e-6)
            np.testing.assert_allclose(scale, np.array([box.height, box.width]) / row.shape, rtol=1e-6)
    square = survey(images, replace(spec, size=96, fit="pad"))
    assert (narrow.stacked("trained") < square.stacked("trained")).mean() > 0.5
    assert (narrow.stacked("trained") <= square.stacked("trained")).all()


def test_ceilings_of_a_region_are_those_of_its_crops(spec):
    images = [image for image in read_catalog(spec) if image.annotation][:3]
    seen, other = spec.classes[0], spec.classes[1:]
    region = Region(classes=(seen,), margin=0.1)
    crops = survey(
        images, replace(spec, classes=(seen,), others=other, swaps={}, palette=(), closeup=(), region=region)
    )
    whole = survey(images, spec)
    for row, trained, scale in zip(crops.annotated, crops.stacked("trained"), crops.stacked("scale"), strict=True):
        mask = masks_of(row, spec)[..., 0]
        rows, columns = np.nonzero(mask)
        crop = region.crop(Box(rows.min(), columns.min(), rows.max() + 1, columns.max() + 1), (48, 48))
        assert scale == pytest.approx([48 / crop.height, 48 / crop.width])
        moved = cutout.cropped(cutout.from_mask(mask), crop)
        assert trained[0] == pytest.approx(ceiling(moved, (crop.height, crop.width), (48, 48)))
        assert np.isnan(trained[1:]).all()
    assert (crops.stacked("trained")[:, 0] > whole.stacked("trained")[:, 0]).all()
    assert (crops.stacked("ceilings") == whole.stacked("ceilings")).all()


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
