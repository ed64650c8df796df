"""Annotations of images, and those of other tools."""

import json
from functools import partial
from pathlib import Path

from bonepipe.data.annotation import read_annotation
from corpus.case import Case, both, cut, folder, gone, nothing, put, swap

LABELS = "data/train/outputs_json/case02/scan004.json"
CLASSES = ("Left Lung", "Right Lung")
GOOD = {"label": "Left Lung", "points": [[0, 0], [40, 0], [0, 40]]}
SQUARE = [[[0, 0], [9, 0], [9, 9]]]


def listing(*entries):
    """A file's content."""
    return json.dumps({"annotations": entries})


def note(title, content, *said):
    """A case of the reader of annotations."""
    return Case(title, put(LABELS, content), partial(read_annotation, Path(LABELS), CLASSES), (LABELS, *said))


def entry(title, *said, **changes):
    """A case of the second entry of two."""
    return note(title, listing(GOOD, GOOD | changes), f"annotations[1].{said[0]}", *said[1:])


def coco(**changes):
    """A file of COCO's form with one image of 30 x 20 pixels."""
    return json.dumps({
        "categories": [{"id": 1, "name": "Ulna"}],
        "images": [{"id": 1, "file_name": "a.png", "height": 20, "width": 30}],
        "annotations": [{"image_id": 1, "category_id": 1, "segmentation": [[1, 1, 9, 1, 9, 9]]}],
        **changes,
    })  # fmt: skip


def labelme(**changes):
    """A file of LabelMe's form."""
    shape = {"label": "Ulna", "points": SQUARE[0]}
    return json.dumps({"imagePath": "a.png", "imageHeight": 20, "imageWidth": 30, "shapes": [shape], **changes})


def tool(title, name, content, *said, more=""):
    """A case of `bonepipe convert`."""
    return Case(title, put(name, content), f"convert {name} -o out --to competition {more}", (name, *said))


def cvat(inner, size='height="20" width="30"'):
    """A file of CVAT's form."""
    return f'<annotations><image name="a.png" {size}>{inner}</image></annotations>'


CASES = [
    Case("no annotation", gone(LABELS), "train fold=0", ("image without annotation, expected", LABELS)),
    Case("no annotation, audited", gone(LABELS), "doctor", ("no annotation, expected", LABELS), 1, True),
    Case("half an annotation", cut(LABELS), "train fold=0", (f"{LABELS}: broken JSON", "re-export")),
    Case("half an annotation, audited", cut(LABELS), "doctor", (f"{LABELS}: broken JSON",), 1, True),
    Case("a folder", folder(LABELS), "train fold=0", (LABELS,)),
    Case("an unknown class", swap(LABELS, "Right Lung", "Right Long"), "train fold=0", (
        f"{LABELS}: annotations[1].label: unknown class 'Right Long'; did you mean 'Right Lung'",)),
    note("nothing at all", "", "broken JSON"),
    note("bytes of no text", b"\xff\xfe\0{", "broken JSON"),
    note("a deep one", "[" * 100_000, "broken JSON"),
    note("a number of a million digits", listing().replace("[]", "9" * 10**6), "broken JSON"),
    note("a list", "[]", "no list under 'annotations'"),
    note("no entries", "{}", "no list under 'annotations'"),
    note("entries by name", json.dumps({"annotations": {"a": GOOD}}), "no list under 'annotations'"),
    note("an entry that is a number", listing(GOOD, 3), "annotations[1]: is not an object"),
    note("ten thousand entries", listing(*[GOOD] * 10_000), "annotations: has 10000 entries; data.limits.outlines"),
    entry("no label", "label: unknown class None", label=None),
    entry("a label of a million letters", "label: unknown class 'xxx", "data.classes lists", label="x" * 10**6),
    entry("a list for a label", "label: unknown class ['Left Lung']", label=["Left Lung"]),
    entry("no points", "points: expected a list of [x, y] pairs in pixels", points=None),
    entry("no pairs", "points: expected a list", points=[1, 2, 3]),
    entry("half a pair", "points: expected a list", points=[[1, 2], [3]]),
    entry("points of text", "points: expected a list", points=[["1", "2"], ["5", "2"], ["1", "9"]]),
    entry("points that are true", "points: expected a list", points=[[True, False], [False, 4], [3, 3]]),
    entry("points that are no numbers", "points: expected a list", points=[[float("nan"), 2], [3, 4], [5, 6]]),
    entry("points without end", "points: expected a list", points=[[float("inf"), 2], [3, 4], [5, 6]]),
    entry("points far away", "points: expected a list", points=[[1e12, 2], [3, 4], [5, 6]]),
    entry("points of huge numbers", "points: expected a list", points=[[10**400, 2], [3, 4], [5, 6]]),
    entry("fractions", "points: lie within 0 and 1", "multiply them", points=[[0, 0], [0.7, 0], [0, 1]]),
    entry("corners of a box", "points: two points are a line or", points=[[10, 10], [200, 300]]),
    entry("a scribble", "points: 8000 points make an outline", "redraw it", points=[[0, 0], [90, 90]] * 4000),
    entry("a box", "type: 'bbox' is not filled", "redraw it as a polygon", type="bbox"),
    entry("a number for a type", "type: 3 is not filled", type=3),
    tool("COCO cut short", "a.json", coco()[:80], "broken JSON", "export it again"),
    tool("COCO without images", "a.json", coco(images=None), "images: expected a list"),
    tool("COCO of no image", "a.json", coco(annotations=[{"image_id": 7, "category_id": 1}]), "nothing has the id 7"),
    tool("COCO twice", "a.json", coco(categories=[{"id": 1, "name": "a"}] * 2), "is there twice"),
    tool("COCO of no pairs", "a.json", coco(annotations=[
        {"image_id": 1, "category_id": 1, "segmentation": [[1, 2, 3]]}]), "annotations[0].segmentation[0]: expected"),
    tool("COCO of other runs", "a.json", coco(annotations=[
        {"image_id": 1, "category_id": 1, "segmentation": {"size": [20, 30], "counts": [5, 10**12]}}]), "has not the"),
    tool("COCO beyond all", "a.json", coco(images=[
        {"id": 1, "file_name": "a.png", "height": 30_000, "width": 30_000}], annotations=[]), "data.limits.pixels"),
    tool("COCO that leads elsewhere", "a.json", coco(images=[
        {"id": 1, "file_name": "../../a.png", "height": 20, "width": 30}], annotations=[]), "is no path below"),
    tool("LabelMe without shapes", "a.json", labelme(shapes={}), "shapes: expected a list"),
    tool("LabelMe of no size", "a.json", labelme(imageHeight=0), "no image is 30 pixels wide and 0 high"),
    tool("LabelMe of no PNG", "a.json", labelme(shapes=[
        {"label": "a", "shape_type": "mask", "points": [[0, 0], [3, 3]], "mask": "xx"}]), "shapes[0].mask: is no PNG"),
    tool("CVAT with entities", "a.xml", "<!DOCTYPE a [<!ENTITY b 'c'>]><annotations/>", "has a document type"),
    tool("CVAT cut short", "a.xml", cvat("")[:40], "broken XML"),
    tool("CVAT for video", "a.xml", "<annotations><track/></annotations>", "CVAT for video"),
    tool("CVAT of words", "a.xml", cvat('<polygon label="a" points="x,y"/>'), "polygon[0].points: expected"),
    tool("CVAT of a box beyond", "a.xml", cvat(
        '<mask label="a" rle="1,1" left="0" top="0" width="9000" height="9000"/>'), "its box is larger than"),
    tool("Label Studio of no list", "a.json", '{"annotations": 3, "shapes": 1}', "a.json", more="--from label-studio"),
    tool("Label Studio of no image", "a.json", '[{"data": {"text": "a"}}]', "data.image: expected the path"),
    tool("unknown annotations", "a.txt", "hello", "looks like no known annotations", "--from"),
    Case("an output that is there", both(put("a.json", coco()), folder("out")),
         "convert a.json -o out --to competition", ("out exists already",)),
    Case("no such format", put("a.json", coco()), "convert a.json -o out --to voc", ("invalid choice: 'voc'",), 2),
    Case("no such limit", nothing, "convert a.json -o out --to coco --limits pixel=3", ("did you mean 'pixels'",), 2),
    Case("nothing to convert", nothing, "convert nowhere -o out --to coco", ("nowhere: no such file or folder",)),
]  # fmt: skip
