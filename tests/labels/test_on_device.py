"""On the CPU, where the same operations run; `tests.benchmarks.gpu` compares on a GPU."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings

from bonepipe.labels import cutout, histogram, on_device, rle, upsample
from tests.labels.test_cells import scaled


@settings(max_examples=200, deadline=None)
@given(scaled())
def test_the_large_map_has_numpys_bits(example):
    probability, shape = example
    large = on_device.upsample(torch.from_numpy(probability)[None], shape)[0].numpy()
    np.testing.assert_array_equal(large.view(np.int32), upsample.upsample(probability, shape).view(np.int32))


@settings(max_examples=100, deadline=None)
@given(scaled())
def test_counts_runs_and_dice_are_numpys(example):
    probability, shape = example
    rng = np.random.default_rng(0)
    maps = np.stack([probability, probability[::-1], np.zeros_like(probability)])
    truth = [cutout.from_mask(rng.random(shape) < 0.3), cutout.empty(), cutout.from_mask(rng.random(shape) < 0.3)]
    counts, runs = on_device.measure(torch.from_numpy(maps), truth, shape)
    pairs = list(zip(maps, truth, strict=True))
    np.testing.assert_array_equal(counts, [upsample.histogram(map_, true, shape) for map_, true in pairs])
    masks = upsample.cutouts(maps, [0.5] * 3, shape)
    for got, mask in zip(runs, masks, strict=True):
        np.testing.assert_array_equal(got, cutout.runs(mask, shape[1]))
    scores = on_device.dice_at_half(torch.from_numpy(maps), truth, shape)
    np.testing.assert_array_equal(scores, upsample.dice_scores(masks, truth))


@pytest.mark.parametrize("memory", [1, 3 * 20 * 30 * on_device.PIXEL, 1 << 30])
def test_chunks_change_nothing(memory, monkeypatch):
    rng = np.random.default_rng(1)
    maps, shape = rng.random((11, 5, 6), dtype=np.float32), (20, 30)
    truth = [cutout.from_mask(rng.random(shape) < 0.2) for _ in maps]
    monkeypatch.setattr(on_device, "MEMORY", memory)
    counts, runs = on_device.measure(torch.from_numpy(maps), truth, shape)
    assert counts.shape == (11, 2, histogram.BINS)
    for label, map_ in enumerate(maps):
        np.testing.assert_array_equal(counts[label], upsample.histogram(map_, truth[label], shape))
        assert rle.encode(upsample.upsample(map_, shape) >= 0.5) == rle.format_runs(runs[label])


def test_levels_are_numpys():
    maps = np.append(np.random.default_rng(2).random(5000, dtype=np.float32), np.float32([0, 1, 1 / 256, 0.5]))
    np.testing.assert_array_equal(on_device.levels(torch.from_numpy(maps)).numpy(), histogram.levels(maps))


def test_as_many_true_masks_as_maps():
    with pytest.raises(ValueError, match="2 maps, but 1 true masks"):
        on_device.measure(torch.zeros(2, 4, 4), [cutout.empty()], (8, 8))


def test_on_the_host_already():
    values = torch.arange(3)
    assert on_device.to_host(values) is values
