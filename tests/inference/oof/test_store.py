import numpy as np
import pytest

from bonepipe.errors import BonepipeError
from bonepipe.inference.oof import byte_maps
from bonepipe.inference.oof.store import OofStore

CLASSES, SHAPE = ("a", "b"), (20, 24)


def disc(rng):
    """Smooth maps [2, h, w]: a disc with a faint tail, and a class that is nowhere."""
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]] / np.reshape(SHAPE, (2, 1, 1))
    row, column, radius = rng.uniform(0.2, 0.4, 3)
    return np.stack([1 / (1 + np.exp(60 * (np.hypot(y - row, x - column) - radius))), np.zeros(SHAPE)]).astype("f4")


@pytest.fixture
def written(tmp_path):
    """Fold 0 validates z and x, fold 2 y; their files, and the maps of each image."""
    rng, files = np.random.default_rng(0), {}
    maps = {name: disc(rng) for name in "xyz"}
    for fold, names in ((0, "zx"), (2, "y")):
        files[fold] = tmp_path / f"fold-{fold}.npz"
        packed = [byte_maps.pack(maps[name]) for name in names]
        byte_maps.write(files[fold], list(names), CLASSES, [SHAPE] * len(names), packed)
    return files, maps


@pytest.mark.parametrize("one_fold_at_a_time", [False, True])
def test_images_are_found_in_their_folds(written, one_fold_at_a_time):
    files, maps = written
    store = OofStore(files, CLASSES, one_fold_at_a_time=one_fold_at_a_time)
    assert store.folds == {"z": 0, "x": 0, "y": 2}
    assert list(store.folds) == ["z", "x", "y"]
    assert store.nbytes == sum(path.stat().st_size for path in files.values())
    for name in "xyzzyx":
        image = store.image(name)
        assert image.shape == SHAPE
        pieces = np.stack([byte_maps.expand(piece, image.shape) for piece in image.pieces])
        np.testing.assert_array_equal(pieces, store.maps(name))
        assert np.abs(pieces - maps[name])[maps[name] >= 1 / 256].max() <= 0.5 / 256
        np.testing.assert_allclose(store.maps(name), maps[name], atol=1 / 256)


def test_one_fold_at_a_time_lets_the_others_go(written):
    files = written[0]
    for one_fold_at_a_time in (False, True):
        store = OofStore(files, CLASSES, one_fold_at_a_time=one_fold_at_a_time)
        store.maps("x"), store.maps("y")
        content = files[0].read_bytes()
        files[0].unlink()
        store.maps("y")
        if one_fold_at_a_time:
            with pytest.raises(BonepipeError, match="fold-0"):
                store.maps("x")
        else:
            store.maps("x")
        files[0].write_bytes(content)


def test_files_that_are_missing_or_of_other_classes_are_named(written, tmp_path):
    files, _ = written
    with pytest.raises(BonepipeError, match="other classes"):
        OofStore(files, ("a", "c"))
    with pytest.raises(BonepipeError, match="fold-3"):
        OofStore({**files, 3: tmp_path / "fold-3.npz"}, CLASSES)
