import numpy as np
import pytest

from bonepipe.data import corrections
from bonepipe.data.catalog import train_images
from bonepipe.data.spec import DataSpec
from bonepipe.data.store import key, open_store
from bonepipe.errors import BonepipeError
from bonepipe.labels import bitplane, rle
from bonepipe.labels.cutout import to_mask

CLASSES = tuple("abcdefghij")
SHAPE = (12, 15)


def planes(seed=0):
    mask = np.random.default_rng(seed).random((*SHAPE, len(CLASSES))) < 0.3
    return mask, bitplane.pack(mask)


def written(tmp_path, *rows):
    path = tmp_path / "corrections.csv"
    corrections.write(path, [(*row, "a remark, with a comma") for row in rows])
    return path


def read(tmp_path, *rows):
    return corrections.read(written(tmp_path, *rows), CLASSES, ["x.png", "y.png"])


def test_every_action_is_read(tmp_path):
    found = read(
        tmp_path,
        ("x.png", "", "drop", ""),
        ("y.png", "c", "drop", ""),
        ("y.png", "a", "permute", "j"),
        ("y.png", "j", "permute", "a"),
        ("y.png", "b", "replace", "3 4"),
    )
    assert found["x.png"].dropped
    assert not found["x.png"].ignores
    other = found["y.png"]
    assert not other.dropped
    assert (other.ignored, other.moved, other.replaced) == ({2}, {0: 9, 9: 0}, {1: "3 4"})


def test_labels_drawn_as_one_class_become_the_right_one(tmp_path):
    """What is drawn as a is b, b is j, and j is a: each pixel, by hand."""
    mask, packed = planes()
    cycle = [("x.png", "a", "permute", "b"), ("x.png", "b", "permute", "j"), ("x.png", "j", "permute", "a")]
    result = bitplane.unpack(read(tmp_path, *cycle)["x.png"].apply(packed), len(CLASSES))
    for drawn, right in (("a", "b"), ("b", "j"), ("j", "a"), ("c", "c")):
        assert (result[..., CLASSES.index(right)] == mask[..., CLASSES.index(drawn)]).all()


def test_a_mask_is_replaced_and_the_others_stay(tmp_path):
    mask, packed = planes()
    new = np.random.default_rng(5).random(SHAPE) < 0.5
    correction = read(tmp_path, ("x.png", "i", "replace", rle.encode(new)))["x.png"]
    mask[..., 8] = new
    assert (bitplane.unpack(correction.apply(packed), len(CLASSES)) == mask).all()


def test_a_dropped_class_does_not_count_anywhere(tmp_path):
    correction = read(tmp_path, ("x.png", "b", "drop", ""), ("x.png", "j", "drop", ""))["x.png"]
    ignored = bitplane.unpack(correction.ignored_planes((3, 4)), len(CLASSES))
    assert ignored.all((0, 1)).tolist() == [label in "bj" for label in CLASSES]
    assert ignored.any((0, 1)).tolist() == [label in "bj" for label in CLASSES]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (("z.png", "a", "drop", ""), r"line 2: column image_name: 'z.png' is not in the dataset; did you mean"),
        (("x.png", "aa", "drop", ""), r"line 2: column class: unknown class 'aa'; did you mean 'a'"),
        (("x.png", "", "permute", "a"), r"line 2: column class: unknown class ''"),
        (("x.png", "a", "permute", ""), r"line 2: column value: unknown class ''"),
        (("x.png", "a", "permute", "b"), r"line 2: .* no permutation; see a, b"),
        (("x.png", "a", "delete", ""), r"line 2: column action: 'delete' is not one of drop, permute, replace"),
        (("x.png", "a", "replace", "3"), r"line 2: column value: .*no length"),
    ],
)
def test_a_row_that_cannot_be_carried_out_is_named(tmp_path, row, message):
    with pytest.raises(BonepipeError, match=message):
        read(tmp_path, row)


def test_a_class_renamed_twice_is_refused(tmp_path):
    with pytest.raises(BonepipeError, match=r"line 3: x\.png, a, permute again, first at line 2"):
        read(tmp_path, ("x.png", "a", "permute", "b"), ("x.png", "a", "permute", "c"))


def test_two_rows_that_contradict_each_other_are_refused(tmp_path):
    with pytest.raises(BonepipeError, match=r"line 3: x\.png, a, replace again, first at line 2"):
        read(tmp_path, ("x.png", "a", "replace", "1 2"), ("x.png", "a", "replace", "3 4"))
    with pytest.raises(BonepipeError, match="line 3: a is both dropped and replaced"):
        read(tmp_path, ("x.png", "a", "replace", "1 2"), ("x.png", "a", "drop", ""))


def test_a_file_that_a_spreadsheet_saved_is_read(tmp_path):
    path = tmp_path / "corrections.csv"
    path.write_text("\ufeffImage_name;Class;Action;Value\r\nx.png;a;drop;\r\n;;;\r\n", encoding="utf-8", newline="")
    assert corrections.read(path, CLASSES, ["x.png"])["x.png"].ignored == {0}
    path.write_text("")
    with pytest.raises(BonepipeError, match=r"corrections\.csv: no column 'image_name'"):
        corrections.read(path, CLASSES, ["x.png"])


def test_a_missing_file_or_column_is_named(tmp_path):
    with pytest.raises(BonepipeError, match=r"data\.corrections: .*none\.csv: cannot be read"):
        corrections.read(tmp_path / "none.csv", CLASSES, [])
    path = tmp_path / "c.csv"
    path.write_text("image_name,class\n")
    with pytest.raises(BonepipeError, match="no column 'action'"):
        corrections.read(path, CLASSES, [])


@pytest.fixture
def chest(chest_root, tmp_path):
    labels = ("Left Lung", "Right Lung", "Cardiomediastinum", "Airways", "Ground Glass Opacities")
    return {"name": "chest", "root": str(chest_root), "classes": labels, "size": 64, "metadata": None}


def test_training_labels_change_and_the_truth_does_not(chest, tmp_path):
    images = train_images(DataSpec(**chest))
    plain = open_store(images, DataSpec(**chest), tmp_path)
    new = np.zeros(plain.shape(2), bool)
    new[10:40, 20:50] = True
    rows = [
        (images[0].name, "Left Lung", "permute", "Right Lung"),
        (images[0].name, "Right Lung", "permute", "Left Lung"),
        (images[2].name, "Airways", "replace", rle.encode(new)),
        (images[3].name, "Airways", "drop", ""),
    ]
    spec = DataSpec(**chest, corrections=str(written(tmp_path, *rows)))
    mended = open_store(images, spec, tmp_path)
    before, after = ([bitplane.unpack(p, 5) for p in store.planes] for store in (plain, mended))
    assert (after[0] == before[0][..., [1, 0, 2, 3, 4]]).all()
    assert (before[0][..., 0] != before[0][..., 1]).any()
    assert (after[1] == before[1]).all()
    share = after[2][..., 3].mean() / new.mean()
    assert share == pytest.approx(1, abs=0.1)
    assert (after[2][..., :3] == before[2][..., :3]).all()
    assert (after[3] == before[3]).all()
    ignored = bitplane.unpack(mended.ignored[3], 5)
    assert ignored[..., 3].all()
    assert not ignored[..., [0, 1, 2, 4]].any()
    assert not mended.ignored[:3].any()
    assert plain.ignored is None
    for index in range(len(images)):
        shape = plain.shape(index)
        pairs = zip(plain.truth(index), mended.truth(index), strict=True)
        assert all((to_mask(a, shape) == to_mask(b, shape)).all() for a, b in pairs)


def test_the_store_depends_on_what_the_file_says_and_only_where_there_is_one(chest, tmp_path):
    images = train_images(DataSpec(**chest))
    keys = [key(images, DataSpec(**chest), tmp_path)]
    for action in (("Airways", "drop", ""), ("", "drop", "")):
        path = written(tmp_path, (images[0].name, *action))
        keys.append(key(images, DataSpec(**chest, corrections=str(path)), tmp_path))
    assert len(set(keys)) == 3
    assert key(images, DataSpec(**chest, pseudo_weight=0.25), tmp_path) == keys[0]
    with pytest.raises(BonepipeError, match=r"none\.csv: no such file"):
        key(images, DataSpec(**chest, corrections="none.csv"), tmp_path)


def test_a_replacement_beyond_its_image_is_named(chest, tmp_path):
    images = train_images(DataSpec(**chest))
    path = written(tmp_path, (images[0].name, "Airways", "replace", "99999 5"))
    with pytest.raises(BonepipeError, match=r"corrections\.csv: line 2: replace: .*beyond the image"):
        open_store(images, DataSpec(**chest, corrections=str(path)), tmp_path)
    assert not [folder for folder in tmp_path.iterdir() if folder.is_dir()]


def test_masks_and_corrections_exclude_each_other(chest):
    with pytest.raises(ValueError, match=r"data\.masks and data\.corrections"):
        DataSpec(**chest, masks="a.csv", corrections="b.csv")
