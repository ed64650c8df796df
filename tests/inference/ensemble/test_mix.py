"""Members of different sizes, weights and means: the mixture on tensors, and its twin on bytes in boxes."""

import numpy as np
import pytest
import torch
from scipy.special import expit, logit
from torch.nn import functional

from bonepipe.inference.ensemble.members import EDGE, Ensemble, Entry, OofStore, common_shape
from bonepipe.inference.ensemble.members import mix as mix_bytes
from bonepipe.inference.fold_model import mix
from bonepipe.inference.oof import byte_maps

RNG = np.random.default_rng(0)
# Where one member is sure and the other is not, a rounding in the sure one's last digit moves the mean logit most.
CLOSE = {"arithmetic": 1e-6, "geometric": 2e-5}
WEIGHTS = np.array([[0.25, 1.0, 0.6], [0.75, 0.0, 0.4]])


def blobs(size):
    """Smooth maps `[3, size, size]` that are 0 in most places, from 0 to 1."""
    rows, columns = np.meshgrid(*[(np.arange(size) + 0.5) / size] * 2, indexing="ij")
    centres, slopes = RNG.uniform(0.3, 0.7, (3, 2)), RNG.uniform(20, 60, 3)
    distance = [np.hypot(rows - row, columns - column) for row, column in centres]
    maps = np.stack([expit(slope * (0.2 - d)) for slope, d in zip(slopes, distance, strict=True)])
    return np.where(maps >= 1 / 256, maps, 0).astype(np.float32)


@pytest.fixture(scope="module")
def pair():
    return blobs(64), blobs(96)


def at_96(maps):
    """The slow and obvious way: torch's bilinear interpolation of the whole frame."""
    tensor = torch.from_numpy(maps)[None].double()
    return functional.interpolate(tensor, (96, 96), mode="bilinear", align_corners=False)[0].numpy()


def expected(pair, mean):
    large = np.stack([at_96(maps) for maps in pair])
    shares = WEIGHTS[:, :, None, None]
    if mean == "arithmetic":
        return (shares * large).sum(0)
    return expit((shares * logit(large.clip(EDGE, 1 - EDGE))).sum(0))


@pytest.mark.parametrize("mean", ["arithmetic", "geometric"])
def test_sizes_64_and_96_meet_at_96(pair, mean):
    tensors = (torch.from_numpy(maps.copy())[None] for maps in pair)
    mixed = mix(tensors, WEIGHTS, (96, 96), mean)
    assert mixed.dtype == torch.float32
    np.testing.assert_allclose(mixed[0], expected(pair, mean), rtol=0, atol=CLOSE[mean])
    assert np.abs(mixed[0].numpy() - at_96(pair[0])).max() > 0.05


@pytest.mark.parametrize("mean", ["arithmetic", "geometric"])
def test_the_box_way_equals_the_full_frame_where_there_is_something(pair, mean):
    mixed, whole = mix_bytes(pair, WEIGHTS, (96, 96), mean), expected(pair, mean)
    there = mixed > 0
    np.testing.assert_allclose(mixed[there], whole[there], rtol=0, atol=CLOSE[mean])
    assert whole[~there].max() < 1 / 256
    assert 0.01 < there.mean() < 0.8


def test_one_member_and_two_equal_ones_keep_every_bit(pair):
    maps = torch.from_numpy(pair[0])[None]
    for count in (1, 2):
        mixed = mix((maps.clone() for _ in range(count)), np.full((count, 3), 1 / count), (64, 64))
        assert torch.equal(mixed, maps)
    np.testing.assert_array_equal(mix_bytes([pair[0]], np.ones((1, 3)), (64, 64), "arithmetic"), pair[0])


def test_no_member_has_a_veto_in_a_geometric_mean():
    sure, silent = torch.full((1, 1, 2, 2), 0.99), torch.zeros(1, 1, 2, 2)
    mixed = mix(iter([sure.clone(), silent]), np.array([[0.9], [0.1]]), (2, 2), "geometric")
    np.testing.assert_allclose(mixed, expit(0.9 * logit(0.99) + 0.1 * logit(1 / 512)), rtol=1e-5)
    assert mixed.min() > 0.9


def test_members_meet_at_the_largest_height_and_width():
    assert common_shape([(64, 128), (96, 32), (80, 80)]) == (96, 128)


def test_entries_that_differ_in_weight_alone_are_one():
    a, b = Entry(run="a"), Entry(run="a", folds=(0,))
    merged = Ensemble(members=(a, b, Entry(run="a", weight=2.0))).merged()
    assert merged.members == (Entry(run="a", weight=3.0), b)


def test_an_archive_finds_images_in_their_folds(tmp_path):
    folds = {}
    for fold, names in ((0, ["x", "y"]), (2, ["z"])):
        maps = [blobs(64) for _ in names]
        byte_maps.write(tmp_path / "p.npz", names, list("abc"), (64, 64), [byte_maps.pack(map_) for map_ in maps])
        folds[fold] = byte_maps.read(tmp_path / "p.npz", list("abc"))
    archive = OofStore(folds)
    assert archive.places == {"x": (0, 0), "y": (0, 1), "z": (2, 0)}
    assert archive.shape == (64, 64)
    np.testing.assert_allclose(archive.maps("z"), maps[0], atol=0.5 / 256)
