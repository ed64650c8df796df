import zipfile

import numpy as np
import pytest

from bonepipe.errors import BonepipeError
from bonepipe.inference.oof import results
from bonepipe.inference.oof.results import Compared, read_counts

CLASSES = ("Radius", "Ulna", "Lunate")


@pytest.fixture
def written(tmp_path):
    """A fold's folder with the results of two images."""
    counts = np.random.default_rng(0).integers(0, 50, (2, 3, 2, 256))
    rows = [Compared(["1 4", "", "9 2"], np.array([0.5, 1.0, 0.25]), image) for image in counts]
    dice = results.write_results(tmp_path, ["a.png", "b.png"], CLASSES, rows)
    np.testing.assert_array_equal(dice, [[0.5, 1.0, 0.25]] * 2)
    return tmp_path, counts


def test_the_files_give_back_what_was_written(written):
    folder, counts = written
    names, rows = results.read_results(folder, CLASSES)
    assert names == ["a.png", "b.png"]
    assert [row.runs for row in rows] == [["1 4", "", "9 2"]] * 2
    np.testing.assert_array_equal([row.counts for row in rows], counts)
    pooled = results.pool({3: folder}, CLASSES)
    assert pooled.folds.tolist() == [3, 3]
    np.testing.assert_array_equal(pooled.areas, counts[:, :, 1].sum(-1))


def test_histograms_of_other_classes_are_named(written):
    with pytest.raises(BonepipeError, match=r"histograms\.npz: was written for other classes \(Radius, Ulna, Lunate\)"):
        results.read_curves(written[0] / "histograms.npz", CLASSES[:2])


@pytest.mark.parametrize("content", [None, b"", b"garbage", b"PK\x03\x04garbage", "cut", "other"])
def test_histograms_that_cannot_be_read_are_named(written, content):
    path = written[0] / "histograms.npz"
    if content is None:
        path.unlink()
    elif content == "other":
        np.savez(path, names=np.array(["a"]))
    else:
        path.write_bytes(path.read_bytes()[:-30] if content == "cut" else content)
    with pytest.raises(BonepipeError, match=r"histograms\.npz: cannot be read .*train this fold again"):
        results.read_curves(path, CLASSES)


@pytest.mark.parametrize(
    ("counts", "names"),
    [
        (np.zeros((1, 3, 2, 256), int), ["a", "b"]), (np.zeros((2, 3, 2, 255), int), ["a", "b"]),
        (np.zeros((2, 3, 2, 256)), ["a", "b"]), (np.full((2, 3, 2, 256), -1), ["a", "b"]),
        (np.zeros((2, 3, 2, 256), int), [1, 2]), (np.zeros((), int), "a"),
    ],
)  # fmt: skip
def test_arrays_of_another_form_are_no_histograms(tmp_path, counts, names):
    path = tmp_path / "histograms.npz"
    np.savez(path, names=np.array(names), classes=np.array(CLASSES), counts=counts)
    with pytest.raises(BonepipeError, match=r"histograms\.npz: cannot be read \((counts|names) are .*train this fold"):
        read_counts(path, CLASSES)


def test_an_array_that_tells_of_more_than_is_there_is_never_allocated(tmp_path):
    path = tmp_path / "histograms.npz"
    header = b"{'descr': '<i8', 'fortran_order': False, 'shape': (1 << 60,)}".replace(b"1 << 60", str(1 << 60).encode())
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("classes.npy", b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
    with pytest.raises(BonepipeError, match=r"classes\.npy has not the 1152921504606846976 values"):
        read_counts(path, CLASSES)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_no_flipped_bit_is_read_as_another_number_or_ends_in_a_traceback(tmp_path, save):
    path, draw = tmp_path / "histograms.npz", np.random.default_rng(0)
    save(path, names=np.array(["a.png"]), classes=np.array(["x"]), counts=draw.integers(0, 99, (1, 1, 2, 256)))
    content, named = path.read_bytes(), 0
    names, counts = read_counts(path, ["x"])
    for place in range(0, len(content), 17):
        damaged = bytearray(content)
        damaged[place] ^= 1 << int(draw.integers(8))
        path.write_bytes(damaged)
        try:
            again = read_counts(path, ["x"])
        except BonepipeError as error:
            assert f"{path}: " in str(error)
            named += 1
        else:
            assert again[0] == names and (again[1] == counts).all()
    assert named > len(content) / 30
