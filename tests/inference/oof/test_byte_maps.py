import contextlib
import zipfile

import numpy as np
import pytest

from bonepipe.errors import BonepipeError
from bonepipe.inference.oof import byte_maps

CLASSES = ("a", "b", "c")


def probabilities(seed):
    """Maps [3, 20, 30]: a blob, a faint rim that reaches a border, and nothing."""
    rng, maps = np.random.default_rng(seed), np.zeros((3, 20, 30), np.float32)
    maps[0, 3:9, 10:17] = rng.uniform(0, 1, (6, 7))
    maps[1, 15:, 28:] = rng.uniform(0.005, 0.02, (5, 2))
    return maps


@pytest.fixture
def written(tmp_path):
    images = [probabilities(seed) for seed in range(3)]
    path = tmp_path / "probabilities.npz"
    byte_maps.write(path, ["x", "y", "z"], CLASSES, [(20, 30)] * 3, [byte_maps.pack(maps) for maps in images])
    return path, images


def test_maps_come_back_to_half_a_level(written):
    path, images = written
    found = byte_maps.read(path, CLASSES)
    assert found.names == ["x", "y", "z"]
    assert found.shapes == [(20, 30)] * 3
    for index, maps in enumerate(images):
        back = found.maps(index)
        assert back.dtype == np.float32
        assert np.abs(back - maps)[maps >= 1 / 256].max() <= 0.5 / 256
        assert not back[maps < 1 / 256].any()
        np.testing.assert_array_equal(np.floor(back * 256), np.floor(maps * 256).clip(max=255))


def test_images_of_several_shapes_and_files_of_one_shape_for_all_are_read(written, tmp_path):
    path, images = written
    parts = [maps[:, : 15 + index, 2 * index :] for index, maps in enumerate(images)]
    mixed = tmp_path / "mixed.npz"
    byte_maps.write(mixed, ["x", "y", "z"], CLASSES, [p.shape[1:] for p in parts], [byte_maps.pack(p) for p in parts])
    found = byte_maps.read(mixed, CLASSES)
    assert found.shapes == [found.image(index).shape for index in range(3)] == [p.shape[1:] for p in parts]
    for index, part in enumerate(parts):
        np.testing.assert_array_equal(np.floor(found.maps(index) * 256), np.floor(part * 256).clip(max=255))
    with np.load(path) as file:
        np.savez(path, **{**file, "shape": np.array([20, 30])})  # as earlier versions did
    assert byte_maps.read(path, CLASSES).shapes == [(20, 30)] * 3


def test_certainty_stays_below_one_and_above_a_half():
    boxes, stream = byte_maps.pack(np.array([[[1.0, 0.5]]], np.float32))
    maps = byte_maps.ByteMaps(["x"], [(1, 2)], boxes[None], [stream]).maps(0)
    np.testing.assert_array_equal(maps * 256, [[[255.5, 128.5]]])


def test_only_boxes_cost_bytes(written):
    path, images = written
    found = byte_maps.read(path, CLASSES)
    assert [levels.shape for _, levels in found.pieces(0)] == [(6, 7), (5, 2), (0, 0)]
    assert found.nbytes < sum(maps.nbytes for maps in images) / 30


def test_what_a_model_is_unsure_of_costs_little():
    """A faint glow over half the image, in steps of a level as networks leave it: not a byte a pixel."""
    rows, columns = np.mgrid[:200, :200].astype(np.float32)
    far = np.hypot(rows - 100, columns - 100)
    maps = np.clip(1 / (1 + np.exp(far / 4 - 5)) + 0.02 * np.exp(-far / 90), 0, 1)[None]
    (_, levels), *_ = byte_maps.ByteMaps(["x"], [(200, 200)], *_stacked(maps)).pieces(0)
    assert levels.size > 20_000
    assert byte_maps.ByteMaps(["x"], [(200, 200)], *_stacked(maps)).nbytes < levels.size / 8


def _stacked(maps):
    boxes, stream = byte_maps.pack(maps)
    return boxes[None], [stream]


def test_other_classes_and_broken_files_are_refused(written):
    path, _ = written
    with pytest.raises(BonepipeError, match=r"other classes \(a, b, c\)"):
        byte_maps.read(path, ("a", "b"))
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(BonepipeError, match="train this fold again"):
        byte_maps.read(path, CLASSES)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("boxes", lambda boxes: boxes + 1000), ("boxes", lambda boxes: boxes[:, :-1]), ("boxes",
        lambda boxes: boxes * 1.0),
        ("boxes", lambda boxes: boxes[..., [2, 3, 0, 1]]), ("ends", lambda ends: ends[::-1]), ("ends",
        lambda ends: ends[:-1]),
        ("ends", lambda ends: ends + 1), ("shape", lambda shape: shape * (1 << 40)), ("names",
        lambda names: names[None]),
    ],
)  # fmt: skip
def test_arrays_that_do_not_fit_each_other_are_named(written, name, change):
    path, _ = written
    with np.load(path) as file:
        arrays = dict(file)
    np.savez(path, **{**arrays, name: change(arrays[name])})
    with pytest.raises(BonepipeError, match=r"\.npz: cannot be read .*train this fold again"):
        byte_maps.read(path, CLASSES)


def test_a_wrong_length_in_the_directory_does_not_hide_damaged_values(tmp_path):
    """`numpy.load` takes such a file: zipfile compares the checksum at the end of an entry, which it never comes to."""
    values, path = np.zeros(3000, np.int32), tmp_path / "a.npz"
    values[::250], values[1::300] = 100, 20
    np.savez_compressed(path, classes=np.array(["Ulna"]), values=values)
    content, taken = path.read_bytes(), 0
    with zipfile.ZipFile(path) as archive:
        entry = archive.getinfo("values.npy")
    directory = content.rindex(b"PK\x01\x02")  # of the last entry; its compressed size stands at 20
    start = entry.header_offset + 30 + len(entry.filename)
    for place in range(8 * (start + 40), 8 * (start + entry.compress_size)):
        damaged = bytearray(content)
        damaged[place // 8] ^= 1 << place % 8
        damaged[directory + 22] ^= 4
        path.write_bytes(damaged)
        with contextlib.suppress(Exception):
            taken += not np.array_equal(np.load(path)["values"], values)
        with pytest.raises(BonepipeError, match=r"a\.npz: cannot be read"), byte_maps.opened(path, ["Ulna"]) as file:
            file["values"]
    assert taken


def test_bytes_that_do_not_fill_their_boxes_are_named_when_they_are_asked_for(written):
    path, _ = written
    with np.load(path) as file:
        arrays = dict(file)
    for streams in (np.zeros_like(arrays["streams"]), np.roll(arrays["streams"], 1)):
        np.savez(path, **{**arrays, "streams": streams})
        with pytest.raises(BonepipeError, match=r"\.npz: .* has not as many bytes as its boxes"):
            byte_maps.read(path, CLASSES).maps(0)
