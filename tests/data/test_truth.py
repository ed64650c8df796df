from dataclasses import replace

import numpy as np

from bonepipe.data import truth
from bonepipe.labels import cutout
from bonepipe.labels.cutout import Box, Cutout
from tests.benchmarks.material import Material


def masks_of(seed):
    """Masks of four classes: a speck, one that is not there, one that fills the image, one in a loose box."""
    rng = np.random.default_rng(seed)
    speck = np.zeros((31, 23), bool)
    speck[rng.integers(31), rng.integers(23)] = True
    loose = Cutout(Box(3, 2, 17, 21), rng.random((14, 19)) < 0.5)
    return [cutout.from_mask(speck), cutout.empty(), cutout.from_mask(np.ones((31, 23), bool)), loose]


def assert_same(left, right):
    for a, b in zip(left, right, strict=True):
        assert a.box == b.box
        np.testing.assert_array_equal(a.mask, b.mask)
        assert b.mask.dtype == np.bool_


def test_masks_come_back_as_they_were_written(tmp_path):
    rows = truth.write(tmp_path, ((seed, truth.pack(masks_of(seed))) for seed in range(5)))
    assert rows == [0, 1, 2, 3, 4]
    bits = truth.read(tmp_path)
    for seed in (3, 0, 4):
        assert_same(masks_of(seed), bits.masks(seed))
    assert (tmp_path / truth.BITS).stat().st_size == sum(len(truth.pack(masks_of(seed))[1]) for seed in range(5))


def test_images_without_any_label_have_empty_masks(tmp_path):
    truth.write(tmp_path, [(0, truth.pack([cutout.empty()] * 3))])
    assert_same([cutout.empty()] * 3, truth.read(tmp_path).masks(0))


def test_a_store_keeps_the_masks_of_its_outlines(tmp_path):
    material = Material(tmp_path, 128)
    store = material.store(32)
    assert store.bits is not None
    for index in range(len(store.names)):
        assert_same(replace(store, bits=None).truth(index), store.truth(index))
