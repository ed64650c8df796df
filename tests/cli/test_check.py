import json

import cv2
import numpy as np
import pytest

from bonepipe.cli import main
from bonepipe.cli.check import LISTED

CLASSES = ["Radius", "Ulna"]


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A dataset of two test images, and a conf folder whose data/arm.yaml lists its classes."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BONEPIPE_CONF", str(tmp_path / "conf"))
    files = {
        "conf/config.yaml": "name: x",
        "conf/data/arm.yaml": "classes: [Radius, Ulna]",
        "conf/data/reversed.yaml": "classes: [Ulna, Radius, Pisiform]",
    }
    annotations = [{"label": name, "points": [[0, 0], [4, 0], [0, 4]]} for name in CLASSES]
    files["data/train/outputs_json/ID001/image1_R.json"] = json.dumps({"annotations": annotations})
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    # Sorted paths, not sorted names: patient ID002 comes first.
    for name, shape in (("ID002/image9.png", (4, 5)), ("ID003/image1.png", (6, 3))):
        path = tmp_path / "data/test/DCM" / name
        path.parent.mkdir(parents=True)
        cv2.imwrite(str(path), np.zeros(shape, np.uint8))
    return tmp_path / "data"


def write(root, lines):
    path = root / "sub.csv"
    path.write_text("\n".join(["image_name,class,rle", *lines]) + "\n")
    return str(path)


def valid():
    return ["image9.png,Radius,1 20", "image9.png,Ulna,", "image1.png,Radius,18 1", "image1.png,Ulna,1 2 5 1"]


def test_a_valid_submission_is_ok(root, capsys):
    assert main(["check", write(root, valid()), "--data", str(root)]) == 0
    assert capsys.readouterr().out.startswith("ok: ")


def test_every_fault_is_printed_with_its_line(root, capsys):
    lines = [valid()[1], valid()[0], "image1.png,Radius,18 2", "image1.png,Ulna,1 2 x 1"]
    assert main(["check", write(root, lines), "--data", str(root)]) == 1
    printed = capsys.readouterr().out.splitlines()
    assert [line.split("sub.csv: ")[1] for line in printed] == [
        "line 3: image9.png, Radius out of order, belongs at line 2",
        "line 4: rle: run 1: ends at pixel 19, beyond the image's 18 pixels",
        "line 5: rle: run 2: 'x' is not an integer",
    ]


def test_the_class_list_can_be_named(root, capsys):
    lines = [f"{image},{label}," for image in ("image9.png", "image1.png") for label in ("Ulna", "Radius", "Pisiform")]
    for name in ("data/reversed", "reversed"):
        assert main(["check", write(root, lines), "--data", str(root), "--classes", name]) == 0
    assert main(["check", write(root, valid()), "--data", str(root), "--classes", "data/reversed"]) == 1
    assert "line 4: missing: image9.png, Pisiform belongs here" in capsys.readouterr().out


def test_an_unknown_class_list_is_wrong_usage(root, capsys):
    assert main(["check", write(root, valid()), "--data", str(root), "--classes", "data/foot"]) == 2
    assert "--classes data/foot: no file" in capsys.readouterr().err


def test_long_lists_of_faults_are_cut(root, capsys):
    lines = [f"image{i}.png,foot," for i in range(100, 100 + LISTED)]
    assert main(["check", write(root, lines), "--data", str(root)]) == 1
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == LISTED + 1
    # Each row has an unknown image and an unknown class, and all four rows are missing.
    assert printed[-1] == f"... and {2 * LISTED + 4 - LISTED} more"


def test_no_dataset_is_an_error(root, capsys):
    assert main(["check", write(root, valid()), "--data", str(root / "nowhere")]) == 1
    assert "nowhere" in capsys.readouterr().err


def test_an_image_is_what_its_content_says(root, capsys):
    """JPEG bytes in a PNG's name, as all other commands read them; links to patients are followed."""
    path = root / "test/DCM/ID002/image9.png"
    path.write_bytes(cv2.imencode(".jpg", np.zeros((4, 5), np.uint8))[1].tobytes())
    path.parent.rename(root / "elsewhere")
    path.parent.symlink_to(root / "elsewhere")
    assert main(["check", write(root, valid()), "--data", str(root)]) == 0
    assert main(["check", write(root, valid()[2:]), "--data", str(root)]) == 1
    assert "missing: image9.png, Radius belongs here" in capsys.readouterr().out
    path.write_bytes(b"no image")
    assert main(["check", write(root, valid()), "--data", str(root)]) == 1
    assert "image9.png: cannot be decoded as an image" in capsys.readouterr().err


def test_a_quoted_code_longer_than_the_csv_modules_limit(root, capsys):
    cv2.imwrite(str(root / "test/DCM/ID002/image9.png"), np.zeros((400, 500), np.uint8))
    code = " ".join(f"{2 * i + 1} 1" for i in range(30_000))
    assert len(code) > 200_000
    assert main(["check", write(root, [f'image9.png,Radius,"{code}"', *valid()[1:]]), "--data", str(root)]) == 0
    assert main(["check", write(root, [f'image9.png,Radius,"{code} 3 1"', *valid()[1:]]), "--data", str(root)]) == 1
    assert "line 2: rle: run 30001" in capsys.readouterr().out


def test_the_test_images_are_those_of_the_named_config(root, capsys):
    (root / "test/DCM").rename(root / "testing")
    picture = root / "testing/ID003/image1.png"
    picture.rename(picture.with_suffix(".jpg"))
    text = "defaults: [arm]\ntest_images: testing\nimages: [.png, .jpg]\n"
    (root.parent / "conf/data/mine.yaml").write_text(text)
    lines = [line.replace("image1.png", "image1.jpg") for line in valid()]
    assert main(["check", write(root, lines), "--data", str(root), "--classes", "mine"]) == 0
    assert main(["check", write(root, lines[:2]), "--data", str(root), "--classes", "mine"]) == 1
    assert "missing: image1.jpg, Radius belongs here" in capsys.readouterr().out
