import numpy as np
import pytest

from bonepipe import config as configs
from bonepipe.data.catalog import train_images
from bonepipe.data.masks import planes_of, read_masks
from bonepipe.data.spec import DataSpec
from bonepipe.data.store import key, open_store
from bonepipe.errors import BonepipeError
from bonepipe.labels import bitplane, rle

CLASSES = tuple(f"class {number}" for number in range(11))


def test_planes_equal_the_decoded_masks():
    masks = np.random.default_rng(0).random((11, 20, 30)) < 0.2
    masks[4] = False
    planes = planes_of([rle.encode(mask) for mask in masks], (20, 30), "here")
    assert planes.dtype == np.uint8
    np.testing.assert_array_equal(bitplane.unpack(planes, 11), masks.transpose(1, 2, 0))


@pytest.mark.parametrize("text", ["3", "5 0", "590 20", "a b"])
def test_a_wrong_code_is_named(text):
    with pytest.raises(BonepipeError, match=r"weak\.csv: x\.png, class 1: "):
        planes_of(["", text], (20, 30), "weak.csv: x.png")


def write_rows(path, rows):
    path.write_text("image_name,class,rle\n" + "".join(f"{','.join(row)}\n" for row in rows))


def test_masks_are_read_in_the_order_of_the_classes(tmp_path):
    path = tmp_path / "masks.csv"
    write_rows(path, [("b.png", "two", "1 2"), ("a.png", "one", ""), ("b.png", "one", "5 5"), ("a.png", "two", "9 1")])
    assert read_masks(path, ["a.png", "b.png"], ["one", "two"]) == {"a.png": ["", "9 1"], "b.png": ["5 5", "1 2"]}


def test_classes_that_are_not_learned_may_be_missing(tmp_path):
    path = tmp_path / "masks.csv"
    write_rows(path, [("a.png", "two", "1 2"), ("a.png", "three", "4 1")])
    assert read_masks(path, ["a.png"], ["two"], ["one", "three"]) == {"a.png": ["1 2", "", "4 1"]}
    with pytest.raises(BonepipeError, match=r"no row of a\.png, one"):
        read_masks(path, ["a.png"], ["one", "two"], ["three"])


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ([("a.png", "ome", "1 2")], "unknown class 'ome'; did you mean 'one'"),
        ([("a.png", "one", "1 2")], "no row of b.png, one; an empty mask has an empty code"),
        (
            [("a.png", "one", "1 2"), ("B.png", "one", "")],
            "no row of b.png, one; an empty mask has an empty code; did you mean 'B.png'",
        ),
        (
            [("a.png", "one", "1 2"), ("b.png", "one", ""), ("a.png", "one", "")],
            "line 4: a.png, one again, first at line 2",
        ),
    ],
)
def test_masks_that_do_not_fit_the_data_are_refused(tmp_path, rows, reason):
    path = tmp_path / "masks.csv"
    write_rows(path, rows)
    with pytest.raises(BonepipeError, match=rf"data\.masks=.*masks\.csv: {reason}"):
        read_masks(path, ["a.png", "b.png"], ["one"])


def test_a_file_of_another_kind_is_refused(tmp_path):
    (tmp_path / "masks.csv").write_text("image,mask\na,b\n")
    with pytest.raises(BonepipeError, match=r"masks\.csv: no column 'image_name'; expected image_name,class,rle"):
        read_masks(tmp_path / "masks.csv", ["a"], ["one"])


def test_the_store_trains_on_given_masks_and_validates_against_the_truth(phantom_root, tmp_path):
    """Masks of half the frame in place of the annotations; the outlines stay the annotations'."""
    classes = configs.build(configs.compose(["data=hand", "~experiment"]), "data").classes
    plain = DataSpec(name="phantom", root=str(phantom_root), classes=classes, size=64)
    images = train_images(plain)
    left = rle.encode(np.arange(256) < np.full((256, 1), 128))
    path = tmp_path / "masks.csv"
    write_rows(path, [(one.name, label, left if label == "Ulna" else "") for one in images for label in classes])
    weak = DataSpec(**{**vars(plain), "masks": str(path)})
    truth, store = (open_store(images, spec, tmp_path / "cache") for spec in (plain, weak))
    masks = bitplane.unpack(store.planes[3], 29)
    assert masks[:, :32, classes.index("Ulna")].all()
    assert masks.sum() == 64 * 32
    assert (store.images == truth.images).all()
    for one, other in zip(store.truth(3), truth.truth(3), strict=True):
        assert one.box == other.box
        assert (one.mask == other.mask).all()
    before = key(images, weak, tmp_path)
    assert before != key(images, plain, tmp_path)
    path.write_text(path.read_text() + "\n")
    assert key(images, weak, tmp_path) != before
    path.unlink()
    with pytest.raises(BonepipeError, match=r"data\.masks=.*no such file; `bonepipe weak-labels` writes one"):
        open_store(images, weak, tmp_path / "cache")
