"""Whatever is drawn comes back from every format, and through every pair of them: masks to the pixel."""

from collections import Counter
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from pycocotools import mask as library

from bonepipe.cli import main
from bonepipe.data.catalog import train_images
from bonepipe.data.formats import FORMATS, brush, guess
from bonepipe.data.formats.folder import Images
from bonepipe.data.formats.model import HOLES, LABELS, Annotated, Dataset, Shape, class_runs
from bonepipe.data.spec import DataSpec
from bonepipe.data.store import open_store
from bonepipe.labels import cutout, polygon, rle

SIZE = (23, 31)
CLASSES = ["수근골", "Ulna", "never seen"]
IN_POLYGONS = ["coco", "labelme", "cvat", "label-studio", "competition"]  # outlines come back as outlines
WITH_MASKS = ["coco", "labelme", "cvat", "label-studio", "masks"]  # and tell sizes themselves
outlines = npst.arrays(np.int64, st.tuples(st.integers(3, 8), st.just(2)), elements=st.integers(0, 22)).map(np.float64)
masks = npst.arrays(np.bool_, SIZE)


def image(shapes, name="ID001/image1.png"):
    return Annotated(name=name, height=SIZE[0], width=SIZE[1], shapes=tuple(shapes))


def through(data, name, folder):
    """Write a dataset and read it back, its format guessed."""
    out = folder / f"out.{name}"
    if FORMATS[name].folder:
        out.mkdir()
    notes = Counter()
    FORMATS[name].write(data, out, notes)
    assert guess(out) == name
    return FORMATS[name].read(out, Images(None, notes), notes), notes


@pytest.mark.parametrize("name", IN_POLYGONS)
@settings(max_examples=15, deadline=None)
@given(drawn=st.lists(outlines, min_size=1, max_size=4))
def test_whole_points_come_back_whole(tmp_path_factory, name, drawn):
    """Two classes in turn, so that they overlap and have several parts."""
    drawn = [points for points in drawn if (points > 1).any()]
    data = Dataset([image([Shape(label=CLASSES[n % 2], points=p) for n, p in enumerate(drawn)])], CLASSES)
    (back,), classes = through(data, name, tmp_path_factory.mktemp("trip"))[0]
    assert (back.name, back.size) == ("ID001/image1.png", SIZE)
    assert [shape.label for shape in back.shapes] == [shape.label for shape in data.images[0].shapes]
    for points, shape in zip(drawn, back.shapes, strict=True):
        np.testing.assert_array_equal(shape.points, points)
    if name in ("coco", "labelme", "cvat"):
        assert classes == CLASSES


@pytest.mark.parametrize("name", ["coco", "labelme", "cvat", "label-studio"])
def test_fractions_of_pixels_come_back(tmp_path, name):
    points = np.array([[1.25, 2.3333], [20.1, 2.07], [7.77, 19.99]])
    back, _ = through(Dataset([image([Shape(label="Ulna", points=points)])], CLASSES), name, tmp_path)
    np.testing.assert_array_equal(back.images[0].shapes[0].points, points)


@pytest.mark.parametrize("name", WITH_MASKS)
@settings(max_examples=15, deadline=None)
@given(first=masks, second=masks)
def test_masks_come_back_to_the_pixel_with_holes_and_overlaps(tmp_path_factory, name, first, second):
    shapes = [Shape(label=label, runs=rle.mask_runs(m)) for label, m in zip(CLASSES, (first, second), strict=False)]
    back, _ = through(Dataset([image(shapes)], CLASSES), name, tmp_path_factory.mktemp("trip"))
    for label, mask in zip(CLASSES, (first, second), strict=False):
        np.testing.assert_array_equal(rle.decode(class_runs(back.images[0], label), SIZE), mask)


def test_parts_of_an_object_stay_together_and_attributes_are_kept(tmp_path):
    square = np.array([[2.0, 2], [6, 2], [6, 6], [2, 6]])
    extra = {"occluded": True, "side": "left"}
    parts = [Shape(label="Ulna", points=square + shift, group=7, attributes=extra) for shift in (0, 10)]
    for name in ("coco", "labelme", "cvat"):
        (back,), _ = through(Dataset([image(parts)], ["Ulna"]), name, tmp_path)[0]
        assert len({shape.group for shape in back.shapes}) == 1 < len(back.shapes)
        assert back.shapes[0].group is not None
        assert back.shapes[1].attributes == extra


def test_the_competition_has_no_holes_and_says_how_many_it_filled(tmp_path):
    ring = np.zeros(SIZE, np.bool_)
    ring[2:12, 3:15] = True
    ring[5:8, 6:9] = ring[5:8, 11:13] = False
    back, notes = through(
        Dataset([image([Shape(label="Ulna", runs=rle.mask_runs(ring))])], ["Ulna"]), "competition", tmp_path
    )
    ring[5:8, 6:13] = True
    assert notes[HOLES] == 2
    np.testing.assert_array_equal(rle.decode(class_runs(back.images[0], "Ulna"), SIZE), ring)


@settings(max_examples=40, deadline=None)
@given(mask=masks)
def test_holes_are_what_outlines_fill(mask):
    """Without holes the outlines give the mask back, and only then."""
    cut = cutout.from_mask(mask)
    filled = cutout.to_mask(polygon.cutout(polygon.outlines(cut), SIZE), SIZE)
    assert (polygon.holes(cut) == 0) == (filled == mask).all()


def slow_brush(code, words):
    """The README's description of rle-pack word by word, on a text of bits."""
    bits = iter("".join(f"{byte:08b}" for byte in code))

    def take(count):
        return int("".join(next(bits) for _ in range(count)), 2)

    assert take(32) == words
    word, sizes, out = take(5) + 1, [take(4) + 1 for _ in range(4)], []
    while len(out) < words:
        run = take(1)
        length = take(sizes[take(2)]) + 1
        out += [take(word)] * length if run else [take(word) for _ in range(length)]
    return np.array(out).reshape(*SIZE, 4)[..., 3] > 0


@settings(max_examples=15, deadline=None)
@given(mask=masks)
def test_the_brush_is_what_its_description_says(mask):
    code = brush.encode(rle.mask_runs(mask), SIZE)
    np.testing.assert_array_equal(slow_brush(code, mask.size * 4), mask)
    np.testing.assert_array_equal(brush.decode(code, SIZE), mask)


def test_single_words_of_a_brush_are_read():
    """Label Studio writes colours as single words; here three pixels, the last one transparent."""
    pixels = [9, 8, 7, 255, 9, 8, 7, 255, 1, 2, 3, 0]
    head = f"{12:032b}{7:05b}" + "".join(f"{size - 1:04b}" for size in (3, 4, 8, 16))
    bits = head + "0" + "01" + f"{11:04b}" + "".join(f"{value:08b}" for value in pixels)
    bits += "0" * (-len(bits) % 8)
    assert brush.decode(int(bits, 2).to_bytes(len(bits) // 8), (1, 3)).tolist() == [[True, True, False]]


def test_every_pair_of_formats_keeps_the_phantoms_truth(tmp_path, phantom_root):
    """Through one format and then another: each class's mask of each image is that of the annotations, bit for bit."""
    images = ["--images", str(phantom_root / "train" / "DCM")]

    def table(source):
        out = tmp_path / f"{source.name}.csv"
        assert main(["convert", str(source), "-o", str(out), "--to", "table", *images, "--classes", first]) == 0
        return sorted(out.read_text().splitlines())

    first = "Ulna,Radius"
    truth = table(phantom_root)
    for one, other in permutations(FORMATS, 2):
        there = tmp_path / f"{one}"
        if not there.exists():
            assert main(["convert", str(phantom_root), "-o", str(there), "--to", one]) == 0
        back = tmp_path / f"{one}-{other}"
        assert main(["convert", str(there), "-o", str(back), "--to", other, *images]) == 0
        assert table(back) == truth, (one, other)


def test_a_coco_dataset_can_be_trained_on(tmp_path, phantom_root):
    """Phantom to COCO to a dataset folder: images and planes of the store are those of the phantom."""
    coco, mine = tmp_path / "hands.json", tmp_path / "mine"
    assert main(["convert", str(phantom_root), "-o", str(coco), "--to", "coco"]) == 0
    images = str(phantom_root / "train" / "DCM")
    assert main(["convert", str(coco), "-o", str(mine), "--to", "competition", "--images", images]) == 0
    stores = []
    for root in (phantom_root, mine):
        stores.append(_store(root, tmp_path / root.name))
    (one_rows, one), (other_rows, other) = stores
    assert [(row.name, row.patient) for row in one_rows] == [(row.name, row.patient) for row in other_rows]
    for index in range(len(one_rows)):
        for a, b in zip(one.drawn(index, 0), other.drawn(index, 0), strict=True):
            np.testing.assert_array_equal(a, b)
        for a, b in zip(one.truth(index), other.truth(index), strict=True):
            assert a.box == b.box
            np.testing.assert_array_equal(a.mask, b.mask)


def _store(root, folder):
    from bonepipe.data.phantom.classes import CLASSES as names

    spec = DataSpec(name="hand", root=str(root), classes=tuple(names), size=96, metadata=None)
    rows = train_images(spec)
    return rows, open_store(rows, spec, folder)


def test_cocos_library_reads_what_is_written(tmp_path):
    import json

    mask = np.zeros(SIZE, np.bool_)
    mask[3:9, 4:20] = True
    out = tmp_path / "out.json"
    FORMATS["coco"].write(Dataset([image([Shape(label="Ulna", runs=rle.mask_runs(mask))])], ["Ulna"]), out, Counter())
    (entry,) = json.loads(out.read_text())["annotations"]
    np.testing.assert_array_equal(library.decode(entry["segmentation"]), mask)
    assert (entry["area"], entry["bbox"]) == (96, [4, 3, 16, 6])


def test_pictures_without_a_mask_are_no_objects(tmp_path):
    """`bonepipe predict` writes one for each class; a detector is not to be trained on boxes without area."""
    mask = np.zeros(SIZE, bool)
    mask[3:5, 4:9] = True
    data = Dataset([image([Shape(label="Ulna", runs=rle.mask_runs(mask))])], CLASSES)
    back, _ = through(data, "masks", tmp_path)
    assert [shape.label for shape in back.images[0].shapes] == ["Ulna"]
    (tmp_path / "out.masks" / LABELS).unlink()
    again = FORMATS["masks"].read(tmp_path / "out.masks", Images(None, Counter()), Counter())
    assert sorted(again.classes) == sorted(CLASSES)


def test_images_without_a_suffix_are_found_where_they_are_dicom(tmp_path, write_dicom):
    write_dicom(tmp_path / "ID001" / "IM0001", np.full(SIZE, 7, np.uint8))
    (tmp_path / "ID001" / "README").write_text("no image")
    assert Images(tmp_path, Counter()).place(["IM0001"], None, "x").path == tmp_path / "ID001" / "IM0001"
