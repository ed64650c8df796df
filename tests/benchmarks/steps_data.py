"""A training sample, cold and from the store, and a phantom image."""

import itertools
import tempfile
from pathlib import Path

import cv2
import numpy as np
import torch

from bonepipe import config as configs
from bonepipe.data.augment import Augmentation
from bonepipe.data.batches import TrainingImages
from bonepipe.data.catalog import Radiograph
from bonepipe.data.image import read_grey
from bonepipe.data.phantom.plan import make_plan
from bonepipe.data.phantom.sample import Task, write_sample
from bonepipe.data.spec import DataSpec
from bonepipe.data.store import prepare
from bonepipe.labels import bitplane, polygon
from bonepipe.training.module import normalise

from . import baseline
from .material import Material
from .measure import Pair, alternate, median_seconds
from .table import Row, duration, faster


def cold_sample(image: Radiograph, spec: DataSpec, augmentation: Augmentation, seed: int) -> tuple:
    """PNG and JSON to augmented uint8 tensors: what a loader without a store would do for each item."""
    pixels, planes, *_ = prepare(image, spec)
    pixels, planes = augmentation(pixels, planes, seed)
    return torch.from_numpy(np.ascontiguousarray(pixels)), torch.from_numpy(np.ascontiguousarray(planes))


def check_labels(material: Material, size: int) -> str:
    """Labels equal the baseline's at full size, and at `size` where they cover at least half of a pixel."""
    for image in material.train[:2]:
        spec = material.spec(size)
        assert image.annotation is not None
        pixels, planes, shape, polygons, *_ = prepare(image, spec)
        mask = baseline.read_mask(image.annotation, spec.classes, shape)
        full = bitplane.unpack(polygon.rasterise(polygons, shape, len(spec.classes)), len(spec.classes))
        np.testing.assert_array_equal(full, mask.astype(bool))
        covered = [cv2.resize(plane.astype(np.float32), (size, size), interpolation=cv2.INTER_AREA)
                   for plane in np.moveaxis(mask, 2, 0)]  # fmt: skip
        labels = bitplane.unpack(planes, len(spec.classes))
        np.testing.assert_array_equal(labels, np.stack(covered, 2) >= bitplane.HALF)
        np.testing.assert_array_equal(read_grey(image.path), cv2.imread(str(image.path))[..., 0])
        assert pixels.shape == (size, size)
    return (
        f"labels equal at full size, and at {size} where they cover half of a pixel; ours are augmented "
        "besides, and stay bytes"
    )


def cold(material: Material, repeats: int, size: int = 512) -> list[Row]:
    """PNG + JSON -> tensors."""
    spec, images = material.spec(size), itertools.cycle(material.train)
    augmentation = configs.build(material.config(), "augment", spec)
    draws = zip(itertools.cycle(material.train), itertools.count(), strict=False)
    pair = alternate(
        lambda: _baseline_sample(next(images), spec, size),
        lambda: cold_sample(*_insert(next(draws), spec, augmentation)),
        repeats,
        calls=2,
    )
    files = itertools.cycle([image.path for image in material.train])
    decoding = alternate(lambda: cv2.imread(str(next(files))), lambda: read_grey(next(files)), repeats, calls=2)
    theirs, ours = pair.baseline - decoding.baseline, pair.ours - decoding.ours
    bound = Pair(pair.baseline, decoding.ours, pair.baseline / decoding.ours)
    return [
        faster(f"training sample, cold, {size}", pair, 20, check_labels(material, size)),
        faster("... of it, decoding the PNG", decoding, None, "grey bytes equal"),
        faster("... of it, everything else", Pair(theirs, ours, theirs / ours), None, "the difference of both"),
        faster("... the bound: if ours were the decoding alone", bound, None, "why the target cannot be met"),
    ]


def _baseline_sample(image: Radiograph, spec: DataSpec, size: int) -> tuple:
    assert image.annotation is not None
    return baseline.read_sample(image.path, image.annotation, spec.classes, size)


def _insert(draw: tuple[Radiograph, int], spec: DataSpec, augmentation: Augmentation) -> tuple:
    return draw[0], spec, augmentation, draw[1]


def from_store(material: Material, repeats: int) -> list[Row]:
    """Store -> augmented tensors at 512 and 1024, and what unpacking costs where the device is this CPU."""
    return [row for size, target in ((512, 100), (1024, 50)) for row in _from_store(material, repeats, size, target)]


def _from_store(material: Material, repeats: int, size: int, target: float) -> list[Row]:
    spec, images = material.spec(size), itertools.cycle(material.train)
    items = TrainingImages(material.store(size), configs.build(material.config(), "augment", spec))
    draws = zip(itertools.cycle(range(len(material.train))), itertools.count(), strict=False)
    pair = alternate(lambda: _baseline_sample(next(images), spec, size), lambda: items[next(draws)], repeats, calls=20)
    checked = f"the store holds the cold sample's bytes: {check_store(material, size)} images"
    unpack = median_seconds(lambda: to_device_form(items[0, 0], spec), repeats)
    return [
        faster(f"training sample, from the store, {size}", pair, target, checked),
        Row(f"bytes to float tensors in the training step, {size}", ours=duration(unpack), checked=check_unpack(items)),
    ]


def to_device_form(item: dict, spec: DataSpec) -> tuple[torch.Tensor, torch.Tensor]:
    """What the training step does with an item: normalised image and float targets."""
    image = normalise(torch.from_numpy(item["image"])[None], spec.mean, spec.std)
    return image, bitplane.coverage_torch(torch.from_numpy(item["planes"])[None], len(spec.classes))


def check_store(material: Material, size: int) -> int:
    """Images and planes of the store equal those made from the files."""
    store = material.store(size)
    for index, image in enumerate(material.train[:2]):
        pixels, planes, *_ = prepare(image, material.spec(size))
        np.testing.assert_array_equal(store.images[index], pixels)
        np.testing.assert_array_equal(store.planes[index], planes)
    return min(2, len(material.train))


def check_unpack(items: TrainingImages) -> str:
    """Targets equal the means of NumPy's own unpacking."""
    planes = items[0, 0]["planes"]
    classes = items.store.class_count
    targets = bitplane.coverage_torch(torch.from_numpy(planes)[None], classes)[0].numpy()
    parts = np.split(planes, planes.shape[-1] // bitplane.plane_count(classes), axis=-1)
    means = np.mean([bitplane.unpack(np.ascontiguousarray(part), classes) for part in parts], axis=0)
    np.testing.assert_array_equal(targets, np.moveaxis(means, 2, 0))
    return "targets equal NumPy's unpackbits"


def phantom(material: Material, repeats: int) -> list[Row]:
    """One radiograph drawn, annotated and written."""
    visit = next(visit for visit in make_plan(2, 1, 0).visits if not visit.test)
    with tempfile.TemporaryDirectory() as folder:
        task = Task(Path(folder), visit, 0, material.size, 0)
        elapsed = median_seconds(lambda: write_sample(task), repeats)
        before = next(Path(folder).rglob("*.png")).read_bytes()
        write_sample(task)
        assert next(Path(folder).rglob("*.png")).read_bytes() == before
    step, checked = f"phantom image at {material.size}", "same seed, same bytes"
    return [Row(step, "", duration(elapsed), "", "under 600 ms", elapsed < 0.6, checked)]
