"""Files in the form that each tool documents are read; broken and hostile ones get an error with file and field."""

import base64
import json
from collections import Counter

import cv2
import numpy as np
import pytest

from bonepipe.cli import main
from bonepipe.data.formats import FORMATS, brush, guess
from bonepipe.data.formats.folder import Images
from bonepipe.data.formats.model import Annotated, Dataset, Shape, class_runs
from bonepipe.errors import BonepipeError
from bonepipe.labels import rle

H, W = 4, 6
BLOCK = np.zeros((H, W), np.bool_)
BLOCK[1:3, 2:5] = True  # the outline (2, 1), (4, 1), (4, 2), (2, 2) fills the same
FLAT = [2, 1, 4, 1, 4, 2, 2, 2]
COUNTS = [9, 2, 2, 2, 2, 2, 5]  # column by column


def coco(segmentation=None, **changes):
    annotation = {"id": 1, "image_id": 5, "category_id": 9, "iscrowd": 0, "area": 6, "bbox": [2, 1, 3, 2]}
    annotation["segmentation"] = [FLAT] if segmentation is None else segmentation
    picture = {"id": 5, "file_name": "a.png", "height": H, "width": W, "license": 1, "date_captured": ""}
    return {
        "info": {"year": 2024}, "licenses": [{"id": 1, "name": "CC"}], "images": [picture | changes],
        "categories": [{"id": 3, "name": "손목"}, {"id": 9, "name": "Ulna", "supercategory": "bone"}],
        "annotations": [annotation],
    }  # fmt: skip


def labelme(shape=None, **changes):
    polygon = {
        "label": "Ulna", "points": [[2.0, 1.0], [4.0, 1.0], [4.0, 2.0], [2.0, 2.0]], "group_id": None,
        "description": "", "shape_type": "polygon", "flags": {}, "mask": None,
    }  # fmt: skip
    content = {"version": "5.5.0", "flags": {}, "shapes": [polygon | (shape or {})], "imagePath": "..\\pictures\\a.png"}
    return content | {"imageData": None, "imageHeight": H, "imageWidth": W} | changes


def labelme_mask(corners, mask):
    return labelme({"shape_type": "mask", "points": corners, "mask": mask})


def png(mask):
    return base64.b64encode(cv2.imencode(".png", mask.astype(np.uint8))[1].tobytes()).decode()


def cvat(shape, head='<image id="0" name="a.png" width="6" height="4">'):
    return (
        '<?xml version="1.0" encoding="utf-8"?><annotations><version>1.1</version><meta><task><labels>'
        "<label><name>손목</name><attributes/></label><label><name>Ulna</name></label></labels></task></meta>"
        f"{head}{shape}</image></annotations>"
    )


def studio(kind, value, **changes):
    region = {
        "original_width": W, "original_height": H, "image_rotation": 0, "value": value | {kind: ["Ulna"]}, "id": "x",
        "from_name": "label", "to_name": "image", "type": kind, "origin": "manual",
    }  # fmt: skip
    annotation = {
        "id": 1,
        "completed_by": 1,
        "was_cancelled": False,
        "ground_truth": False,
        "result": [region | changes],
    }
    return [{"id": 1, "data": {"image": "/data/upload/1/0123abcd-a.png"}, "annotations": [annotation]}]


PERCENT = [[x / W * 100, y / H * 100] for x, y in ((2, 1), (4, 1), (4, 2), (2, 2))]
CVAT_POLYGON = (
    '<polygon label="Ulna" source="manual" occluded="1" points="2.00,1.00;4.00,1.00;4.00,2.00;2.00,2.00" z_order="3"/>'
)
CVAT_MASK = (
    '<mask label="Ulna" source="manual" occluded="0" rle="0, 6" left="2" top="1" width="3" height="2" z_order="0"/>'
)
GOOD = {
    "coco polygons": ("coco", coco()),
    "coco crowd": ("coco", coco({"size": [H, W], "counts": COUNTS})),
    "labelme polygon": ("labelme", labelme()),
    "labelme mask": ("labelme", labelme_mask([[2, 1], [4, 2]], png(np.ones((2, 3))))),
    "cvat polygon": ("cvat", cvat(CVAT_POLYGON)),
    "cvat mask": ("cvat", cvat(CVAT_MASK)),
    "studio polygon": ("label-studio", studio("polygonlabels", {"points": PERCENT, "closed": True})),
    "studio brush": (
        "label-studio",
        studio("brushlabels", {"format": "rle", "rle": list(brush.encode(rle.mask_runs(BLOCK), (H, W)))}),
    ),
}  # fmt: skip


def written(tmp_path, content):
    path = tmp_path / "file"
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


@pytest.mark.parametrize("case", GOOD)
def test_a_file_as_the_tool_documents_it_is_read(tmp_path, case):
    name, content = GOOD[case]
    path = written(tmp_path, content)
    assert guess(path) == name
    notes = Counter()
    (image,), classes = FORMATS[name].read(path, Images(None, notes), notes)
    assert (image.name, image.size) == ("a.png", (H, W))
    np.testing.assert_array_equal(rle.decode(class_runs(image, "Ulna"), (H, W)), BLOCK)
    assert classes == (["손목", "Ulna"] if name in ("coco", "cvat") else ["Ulna"])


BOMB = '<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;">]><annotations>&b;</annotations>'
BAD = [
    ("coco", "{", "broken JSON"),
    ("coco", "[" * 100000, "broken JSON"),
    ("coco", {"images": []}, "categories: expected a list, which is missing"),
    ("coco", coco(file_name="../../a.png"), r"images\[0\]: '../../a.png' is no path below"),
    ("coco", coco(file_name="/etc/a.png"), "no path below"),
    ("coco", coco(height=-1), "no image is 6 pixels wide and -1 high"),
    ("coco", coco(height="4"), r"images\[0\].height: expected a whole number"),
    ("coco", coco(id=6), r"annotations\[0\].image_id: nothing has the id 5"),
    ("coco", coco([[1, 2, 3]]), r"segmentation\[0\]: expected a list of \[x, y\]"),
    ("coco", coco([[1, 2, 9, 9]]), "two points are a line"),
    ("coco", coco([[float("nan")] * 6]), "expected a list of"),
    ("coco", coco({"size": [H, W], "counts": [1, 2]}), "has not the sum of"),
    ("coco", coco({"size": [H, W], "counts": [-1, H * W + 1]}), "whole numbers"),
    ("coco", coco({"size": [H, W], "counts": ""}), "no run lengths"),
    ("coco", coco({"size": [H, W], "counts": "0"}), "no run lengths"),
    ("coco", coco({"size": [W, H], "counts": COUNTS}), "is not the image's"),
    ("labelme", labelme({"label": ""}), r"shapes\[0\].label: expected the name of a class"),
    ("labelme", labelme({"points": [[1, 2], [4, 5]]}), r"shapes\[0\].points: two points are a line"),
    ("labelme", labelme_mask([[5, 3], [9, 9]], png(np.ones((7, 5)))), "inside the image"),
    ("labelme", labelme({"shape_type": "mask", "mask": "AAAA"}), "is no PNG"),
    ("cvat", BOMB, "document type"),
    ("cvat", "<annotations><image", "broken XML"),
    ("cvat", cvat('<polygon label="Ulna" points="1,2;x,3"/>'), r"polygon\[0\].points: expected"),
    ("cvat", cvat('<mask label="Ulna" rle="1, 2" left="0" top="0" width="3" height="2"/>'), "sum"),
    ("cvat", cvat("", '<image name="a.png" width="6">'), "height: expected a whole number"),
    ("cvat", "<annotations><track/></annotations>", "CVAT for video"),
    ("label-studio", {"a": 1}, "expected a list of tasks"),
    ("label-studio", studio("polygonlabels", {"points": [[1]]}), "percent"),
    ("label-studio", studio("brushlabels", {"rle": [0, 0, 0]}), "stops short"),
    ("label-studio", studio("brushlabels", {"rle": [300]}), "no code of a brush"),
    ("label-studio", studio("polygonlabels", {"points": PERCENT}, image_rotation=90), "turned"),
    ("table", "image_name,class,rle\na.png,Ulna,1 2\n", "--images"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "content", "message"), BAD)
def test_a_broken_file_is_named_with_its_field(tmp_path, name, content, message):
    path, notes = written(tmp_path, content), Counter()
    with pytest.raises(BonepipeError, match=message) as error:
        FORMATS[name].read(path, Images(None, notes), notes)
    assert str(path) in str(error.value)


def test_what_has_no_outline_is_left_out_and_counted(tmp_path, capsys):
    path = written(tmp_path, cvat('<box label="Ulna" xtl="1" ytl="1" xbr="3" ybr="3"/>' + CVAT_POLYGON))
    assert main(["convert", str(path), "-o", str(tmp_path / "out.json"), "--to", "coco"]) == 0
    assert "1 shapes left out: a box is no outline" in capsys.readouterr().out


def test_an_output_that_exists_is_left_as_it_is(tmp_path, capsys):
    path, out = written(tmp_path, coco()), tmp_path / "out.xml"
    out.write_text("mine")
    words = ["convert", str(path), "-o", str(out), "--to", "cvat"]
    assert main(words) == 1
    assert out.read_text() == "mine"
    assert "--force" in capsys.readouterr().err
    assert main([*words, "--force"]) == 0
    assert guess(out) == "cvat"


def test_sizes_that_do_not_match_the_image_are_refused_but_those_of_the_competition(tmp_path, capsys):
    """The competition's metadata is known to lie."""
    (tmp_path / "pictures").mkdir()
    cv2.imwrite(str(tmp_path / "pictures" / "a.png"), np.zeros((H + 1, W), np.uint8))
    words = ["-o", str(tmp_path / "out.json"), "--to", "coco", "--images", str(tmp_path / "pictures")]
    assert main(["convert", str(written(tmp_path, coco())), *words]) == 1
    assert "6 x 4 pixels (width x height)" in capsys.readouterr().err
    entry = {"type": "poly_seg", "label": "Ulna", "points": [[2, 1], [4, 1], [4, 2]]}
    content = {"annotations": [entry], "metadata": {"height": 3060, "width": 3060}}
    (tmp_path / "a.json").write_text(json.dumps(content))
    assert main(["convert", str(tmp_path / "a.json"), *words]) == 0
    assert json.loads((tmp_path / "out.json").read_text())["images"][0]["height"] == H + 1


def test_an_image_of_another_patient_is_never_taken(tmp_path, capsys):
    (tmp_path / "pictures" / "ID002").mkdir(parents=True)
    cv2.imwrite(str(tmp_path / "pictures" / "ID002" / "a.png"), np.zeros((H, W), np.uint8))
    path = written(tmp_path, coco(file_name="ID001/a.png"))
    words = ["-o", str(tmp_path / "mine"), "--to", "competition", "--images", str(tmp_path / "pictures")]
    assert main(["convert", str(path), *words]) == 0
    assert "1 images not linked" in capsys.readouterr().out
    assert not (tmp_path / "mine" / "train" / "DCM").exists()
    assert (tmp_path / "mine" / "train" / "outputs_json" / "ID001" / "a.json").is_file()


@pytest.mark.parametrize(("pattern", "patient"), [(r"^(\w+)-", "p7"), (None, "p7-left")])
def test_patients_come_from_the_name_where_there_is_no_folder(tmp_path, pattern, patient):
    (tmp_path / "pictures").mkdir()
    cv2.imwrite(str(tmp_path / "pictures" / "p7-left.jpg"), np.zeros((H, W), np.uint8))
    path, out = written(tmp_path, coco(file_name="p7-left.jpg")), tmp_path / "mine"
    words = ["-o", str(out), "--to", "competition", "--images", str(tmp_path / "pictures"), "--copy"]
    assert main(["convert", str(path), *words, *(["--patient", pattern] if pattern else [])]) == 0
    picture = out / "train" / "DCM" / patient / "p7-left.png"
    assert picture.is_file()
    assert not picture.is_symlink()


def test_names_several_folders_deep_do_not_tell_the_patient(tmp_path, capsys):
    """A patient's series must not be taken for patients: they would lie in several folds."""
    path, out = written(tmp_path, coco(file_name="ID001/study1/series00/a.png")), tmp_path / "mine"
    words = ["convert", str(path), "-o", str(out), "--to", "competition"]
    assert main(words) == 1
    said = capsys.readouterr().err
    assert "'ID001/study1/series00/a.png' lies several folders deep" in said
    assert not out.exists()
    pattern = said.split("--patient '")[1].split("' takes the first")[0]
    assert main([*words, "--patient", pattern]) == 0
    assert (out / "train" / "outputs_json" / "ID001" / "a.json").is_file()


@pytest.mark.parametrize("name", ["coco", "labelme", "cvat", "label-studio", "competition"])
def test_long_outlines_are_read_where_the_limits_say_so(tmp_path, capsys, name):
    zigzag = np.array([[x, y] for x in range(200) for y in ((0, 150) if x % 2 else (150, 0))], np.float64)
    shape = Shape(label="Ulna", points=zigzag)
    drawn = Annotated(name="ID001/a.png", height=151, width=200, shapes=(shape,))
    there, out = tmp_path / "there", tmp_path / "out.csv"
    if FORMATS[name].folder:
        there.mkdir()
    FORMATS[name].write(Dataset([drawn], ["Ulna"]), there, Counter())
    words = ["convert", str(there), "--from", name, "-o", str(out), "--to", "table", "--limits"]
    assert main([*words, "length=20000"]) == 1
    assert "a scribble" in capsys.readouterr().err
    assert main([*words, "length=40000"]) == 0
