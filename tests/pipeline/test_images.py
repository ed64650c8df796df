"""Masks of any radiographs: a network of drawn weights, and what the files that it writes say."""

import json
import os
import shutil
import socket

import cv2
import numpy as np
import pytest

from bonepipe import cli
from bonepipe import config as configs
from bonepipe.data.annotation import read_annotation
from bonepipe.data.catalog import test_images as find_test_images
from bonepipe.data.frame import Frame
from bonepipe.errors import BonepipeError
from bonepipe.labels import bitplane, polygon, rle
from bonepipe.pipeline.experiment import Experiment
from bonepipe.pipeline.images import find_images
from bonepipe.pipeline.predictors.run import open_run
from bonepipe.pipeline.run_folder import locked


def test_predict_agrees_with_submit_and_its_outputs_with_each_other(
    copied_run, rows_of, phantom_root, tmp_path, capsys
):
    _, words = copied_run
    experiment = Experiment(configs.compose(words))
    assert cli.main(["submit", *words]) == 0
    out = tmp_path / "out"
    assert cli.main(["predict", str(phantom_root / "test" / "DCM"), "-o", str(out), *words]) == 0
    images = find_test_images(experiment.data)
    assert f"wrote {out}: {len(images)} images" in capsys.readouterr().out
    predicted = rows_of(out / "predictions.csv")
    assert predicted == rows_of(experiment.folder / "submission.csv")
    assert any(predicted.values())
    for image in images[:2]:
        shape = (256, 256)
        planes = polygon.rasterise(
            read_annotation(out / "polygons" / f"{image.path.stem}.json", experiment.data.classes), shape, 29
        )
        for number, label in enumerate(experiment.data.classes):
            mask = rle.decode(predicted[image.name, label], shape)
            png = cv2.imread(str(out / "masks" / image.path.stem / f"{label}.png"), cv2.IMREAD_GRAYSCALE)
            assert (png == 255 * mask).all()
            assert bitplane.unpack(planes, 29)[..., number][mask].all()  # holes apart, see the outlines' own test


def test_predict_goes_on_where_it_stopped(drawn_run, rows_of, chest_root, tmp_path, capsys):
    """Files of mixed sizes and modes; what is there is kept, --force makes it anew, a broken file is named."""
    _, words = drawn_run
    out, pictures = tmp_path / "out", tmp_path / "pictures"
    pictures.mkdir()
    for path in sorted((chest_root / "test").rglob("*.png")):
        shutil.copy(path, pictures)
    names = sorted(path.stem for path in pictures.iterdir())
    (pictures / "zzz.png").write_bytes(b"\x89PNG broken")
    assert cli.main(["predict", str(pictures), "-o", str(out), *words]) == 1
    assert "zzz.png: truncated PNG" in capsys.readouterr().err
    assert not (out / "predictions.csv").exists()
    (pictures / "zzz.png").unlink()
    done = {path.stem: path.stat().st_mtime_ns for path in (out / "polygons").iterdir()}
    command = ["predict", str(pictures), str(pictures / f"{names[0]}.png"), "-o", str(out), *words]
    assert cli.main(command) == 0
    written = {path.stem: path.stat().st_mtime_ns for path in (out / "polygons").iterdir()}
    assert sorted(written) == names
    assert all(written[name] == when for name, when in done.items())
    images = [key[0] for key in rows_of(out / "predictions.csv")]
    assert list(dict.fromkeys(images)) == [f"{name}.png" for name in names]
    assert cli.main(command) == 0
    assert f"{len(names)} images are finished already" in capsys.readouterr().err
    assert cli.main([*command, "--force"]) == 0
    assert all(path.stat().st_mtime_ns > written[path.stem] for path in (out / "polygons").iterdir())
    overlay = cv2.imread(str(out / "overlays" / f"{names[0]}.jpg"))
    assert overlay.shape[:2] == cv2.imread(str(pictures / f"{names[0]}.png")).shape[:2]


def test_predict_finds_radiographs_of_every_kind(drawn_run, rows_of, phantom_root, write_dicom, tmp_path, capsys):
    """The same pixels give the same masks, whatever their file; results name the files as they are named."""
    _, words = drawn_run
    out, pictures = tmp_path / "pictures" / "out", tmp_path / "pictures"
    (pictures / "more").mkdir(parents=True)
    source = sorted((phantom_root / "test").rglob("*.png"))[1]
    grey = cv2.imread(str(source), cv2.IMREAD_GRAYSCALE)
    same = {
        "a.PNG": grey,
        "b.bmp": grey,
        "c.TIFF": np.dstack([grey] * 3),
        "more/d.tif": grey.astype(np.uint16) * 257,
    }
    for name, pixels in {**same, "e.JPG": grey, "more/f.Jpeg": grey}.items():
        assert cv2.imwrite(str(pictures / name), pixels)
    (pictures / "more" / "notes.txt").write_text("no image")
    window = {"WindowCenter": 32767.5, "WindowWidth": 65535, "VOILUTFunction": "LINEAR_EXACT"}
    spacing = {"ImagerPixelSpacing": [0.2, 0.1]}
    write_dicom(pictures / "g.dcm", grey.astype(np.uint16) * 257, "JPEGLSLossless", **window, **spacing)
    write_dicom(pictures / "more" / "IM1", 255 - grey, "JPEG2000Lossless", photometric="MONOCHROME1", **spacing)
    command = ["predict", str(pictures), "-o", str(out), *words]
    assert cli.main(command) == 0
    rows = rows_of(out / "predictions.csv")
    names = ["a.PNG", "b.bmp", "c.TIFF", "e.JPG", "g.dcm", "IM1", "d.tif", "f.Jpeg"]
    assert list(dict.fromkeys(image for image, _ in rows)) == names
    labels = [label for image, label in rows if image == "a.PNG"]
    assert len(labels) == 29
    codes = {name: [rows[name, label] for label in labels] for name in names}
    assert any(codes["a.PNG"])
    assert all(codes[name] == codes["a.PNG"] for name in ("b.bmp", "c.TIFF", "d.tif", "g.dcm", "IM1"))
    for name in ("e.JPG", "f.Jpeg"):
        near = [rle.dice(*pair) for pair in zip(codes[name], codes["a.PNG"], strict=True) if any(pair)]
        assert np.mean(near) > 0.8
    for name in names:
        stem = name.partition(".")[0]
        content = json.loads((out / "polygons" / f"{stem}.json").read_text())
        assert content["filename"] == name
        told = {"pixel_spacing_mm": [0.2, 0.1], "pixel_spacing_from": "ImagerPixelSpacing"}
        assert content["attributes"] == (told if name in ("g.dcm", "IM1") else {})
        assert cv2.imread(str(out / "overlays" / f"{stem}.jpg")).shape[:2] == grey.shape
        assert len(list((out / "masks" / stem).glob("*.png"))) == 29
    capsys.readouterr()
    assert cli.main(command) == 0, "its own results, in a folder among the images, are none"
    assert "8 images are finished already" in capsys.readouterr().err


def test_predict_finds_what_a_person_sees_in_a_folder(tmp_path):
    """Links to folders and files are followed; leftovers of other programs and its own results are none."""
    pictures, elsewhere, out = tmp_path / "pictures", tmp_path / "elsewhere", tmp_path / "pictures" / "out"
    names = ["b/one.png", ".ipynb_checkpoints/one.png", "b/._two.png", "__MACOSX/three.png", "out/masks/one/Ulna.png"]
    for path in [*(pictures / name for name in names), elsewhere / "four.png", tmp_path / "five.JPG"]:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (pictures / "a").symlink_to(elsewhere)
    (pictures / "c.JPG").symlink_to(tmp_path / "five.JPG")
    (elsewhere / "loop").symlink_to(elsewhere)
    assert [image.name for image in find_images([pictures], out)] == ["four.png", "one.png", "c.JPG"]
    (pictures / "b" / "a\nb.png").touch()
    with pytest.raises(BonepipeError, match=r"a\\nb\.png: its path holds a line break"):
        find_images([pictures], out)


def test_negatives_and_odd_exposures_are_named_and_negatives_turned_back(
    drawn_run, rows_of, phantom_root, tmp_path, capsys
):
    _, words = drawn_run
    good, bad = tmp_path / "good", tmp_path / "bad"
    good.mkdir(), bad.mkdir()
    for number, source in enumerate(sorted((phantom_root / "test").rglob("*.png"))[:3]):
        grey = cv2.imread(str(source), cv2.IMREAD_GRAYSCALE)
        changed = [255 - grey, 255 - grey, grey // 4][number]
        for folder, pixels in ((good, grey), (bad, changed)):
            assert cv2.imwrite(str(folder / f"{number}.png"), pixels)
    assert cli.main(["predict", str(good), "-o", str(tmp_path / "a"), *words]) == 0
    assert "warning" not in capsys.readouterr().err
    assert cli.main(["predict", str(bad), "-o", str(tmp_path / "b"), *words]) == 0
    told = capsys.readouterr().err
    assert "warning: 2 images (0.png, 1.png): look like negatives of the training images" in told
    assert "warning: 1 images (2.png): far darker or brighter than the training images" in told
    first = str(bad / "0.png")
    assert cli.main(["predict", first, "-o", str(tmp_path / "b"), "--negative", "--force", *words]) == 0
    assert "warning" not in capsys.readouterr().err
    rows, right = rows_of(tmp_path / "b" / "predictions.csv"), rows_of(tmp_path / "a" / "predictions.csv")
    near = [rle.dice(code, right[key]) for key, code in rows.items() if key[0] == "0.png" and code]
    assert np.mean(near) > 0.99, "one image alone is predicted a rounding apart from three"
    overlays = [cv2.imread(str(tmp_path / name / "overlays" / "0.jpg")) for name in "ab"]
    assert np.abs(overlays[0].astype(int) - overlays[1]).mean() < 1, "overlays show what the model saw"


def test_predict_does_not_mix_predictions_of_other_weights(copied_run, set_thresholds, chest_root, tmp_path, capsys):
    _, words = copied_run
    picture = next((chest_root / "test").rglob("*.png"))
    command = ["predict", str(picture), "-o", str(tmp_path / "out"), *words]
    assert cli.main(command) == 0
    set_thresholds(words, 0.6)
    assert cli.main(command) == 1
    assert "holds predictions of other weights, views or thresholds" in capsys.readouterr().err
    assert cli.main([*command, "--force"]) == 0


def test_an_image_of_the_same_name_is_another_image(
    copied_run, set_thresholds, rows_of, chest_root, phantom_root, tmp_path, capsys
):
    """It is refused, and replaces the other one on request; nor are results of other weights taken for these."""
    _, words = copied_run
    for number, root in enumerate((chest_root, phantom_root)):
        (tmp_path / str(number)).mkdir()
        shutil.copy(next((root / "test").rglob("*.png")), tmp_path / str(number) / "hand.png")
    shutil.copy(tmp_path / "0" / "hand.png", tmp_path / "0" / "more.png")
    out = tmp_path / "out=1"
    first, second = (["predict", str(tmp_path / name), "-o", str(out), *words] for name in "01")
    assert main_of(first, capsys) == ""
    before = rows_of(out / "predictions.csv")
    assert cli.main(second) == 1
    assert "another image of this name" in capsys.readouterr().err
    assert rows_of(out / "predictions.csv") == before
    assert main_of([*second, "--force"], capsys) == ""
    after = rows_of(out / "predictions.csv")
    assert {key for key in after if after[key] != before[key]} <= {key for key in after if key[0] == "hand.png"}
    assert after != before
    set_thresholds(words, 0.6)
    assert cli.main([*second, "--force"]) == 0
    assert {image for image, _ in rows_of(out / "predictions.csv")} == {"hand.png"}, "more.png is of other thresholds"
    assert cli.main(first) == 1
    assert main_of([*first, "--force"], capsys) == ""
    assert "2 images are finished already" in main_of(first, capsys)


def test_the_table_has_all_that_the_folder_holds(drawn_run, rows_of, phantom_root, tmp_path, capsys):
    """Image by image, after a call that was cut off; of two calls at once the second is refused."""
    words = [*drawn_run[1], "prediction.batch_size=1"]  # a pixel may differ between batches of different sizes
    pictures, out = sorted((phantom_root / "test").rglob("*.png"))[:4], tmp_path / "out"
    command = ["predict", "-o", str(out), *words]
    together = tmp_path / "together"
    assert cli.main(["predict", *map(str, pictures), "-o", str(together), *words]) == 0
    for number, picture in enumerate(pictures[:3], 1):
        capsys.readouterr()
        assert cli.main([*command, str(picture)]) == 0
        assert f"wrote {out}: {number} images, {29 * number} masks" in capsys.readouterr().out
    expected = (together / "predictions.csv").read_text()
    assert expected.startswith((out / "predictions.csv").read_text())
    lines = expected.splitlines(keepends=True)
    (out / "predictions.csv").rename(out / "predictions.part.csv")
    with (out / "predictions.part.csv").open("a") as file:  # a call that was killed while it wrote its next rows
        file.write("".join(lines[1 + 3 * 29 : -1]) + lines[-1][:-9])
    with locked(out):
        assert cli.main([*command, str(pictures[3])]) == 1
    assert f"{out}: process {os.getpid()} on {socket.gethostname()} works here" in capsys.readouterr().err
    assert cli.main([*command, str(pictures[3])]) == 0
    assert (out / "predictions.csv").read_text() == expected
    assert not (out / "predictions.part.csv").exists()


def test_the_table_is_not_read_from_the_pictures(drawn_run, phantom_root, tmp_path, capsys):
    """Decoding 29 masks of 2048 pixels to encode them again takes longer than the prediction."""
    _, words = drawn_run
    picture, out = min((phantom_root / "test").rglob("*.png")), tmp_path / "out"
    command = ["predict", str(picture), "-o", str(out), *words]
    assert cli.main(command) == 0
    mask, table = out / "masks" / picture.stem / "Ulna.png", (out / "predictions.csv").read_bytes()
    before = mask.read_bytes()
    cv2.imwrite(str(mask), np.full((3, 3), 255, np.uint8))
    assert "1 images are finished already" in main_of(command, capsys)
    assert (out / "predictions.csv").read_bytes() == table
    mask.unlink()
    assert "already" not in main_of(command, capsys)
    assert mask.read_bytes() == before


def main_of(words, capsys):
    """What a command that ends well tells beside its results, without its bars."""
    capsys.readouterr()
    assert cli.main(words) == 0
    return "".join(line for line in capsys.readouterr().err.splitlines() if "already" in line)


def test_predict_refuses_what_it_cannot_find(drawn_run, chest_root, tmp_path, capsys):
    _, words = drawn_run
    picture = next((chest_root / "test").rglob("*.png"))
    shutil.copy(picture, tmp_path / picture.name)
    (tmp_path / f"{picture.stem}.jpg").touch()
    (tmp_path / "hand.dcm").touch()
    (tmp_path / "IM0001").write_bytes(bytes(128) + b"DICM" + bytes(99))
    for given, message in (
        ([tmp_path / "none.png"], "none.png: no such file"),
        (
            [tmp_path / "empty"],
            "empty: no images in this folder (.png, .jpg, .jpeg, .tif, .tiff, .bmp, .dcm, .dicom",
        ),
        ([picture, tmp_path / picture.name], "one name twice"),
        ([picture, tmp_path / f"{picture.stem}.jpg"], "one name twice, suffixes aside"),
        (
            [tmp_path / "hand.dcm"],
            "hand.dcm: cannot be decoded as an image (PNG, JPEG, TIFF, BMP or DICOM); copy the file",
        ),
        ([tmp_path / "IM0001"], "IM0001: has no Pixel Data (7FE0,0010): it is cut short, or no image"),
    ):
        (tmp_path / "empty" / "folder.png").mkdir(parents=True, exist_ok=True)
        assert cli.main(["predict", *map(str, given), "-o", str(tmp_path / "out"), *words]) == 1
        assert message in capsys.readouterr().err
    unfinished = [*words, "name=other"]
    assert cli.main(["predict", str(picture), "-o", str(tmp_path / "out"), *unfinished]) == 1
    assert "other/fold-0: is not trained yet; run `bonepipe train-all`" in capsys.readouterr().err


def as_if_made_before(folder):
    """A run whose config and fingerprint know nothing of data.fit yet."""
    for here in (folder / "runs" / "demo").glob("fold-*"):
        config = configs.load(here / "config.yaml")
        del config["data"]["fit"]
        configs.save(config, here / "config.yaml")
        record = json.loads((here / "fingerprint.json").read_text())
        del record["training"]["inputs"]["settings"]["data"]["fit"]
        (here / "fingerprint.json").write_text(json.dumps(record))
    config = configs.load(folder / "runs" / "demo" / "config.yaml")
    del config["data"]["fit"]
    configs.save(config, folder / "runs" / "demo" / "config.yaml")


def test_a_run_is_never_shown_images_in_another_way_than_in_training(copied_run, phantom_root, tmp_path, capsys):
    folder, words = copied_run
    image = str(next((phantom_root / "test").rglob("*.png")))
    command = ["predict", image, "-o", str(tmp_path / "out")]
    assert cli.main([*command, *words, "data.size=96"]) == 1
    assert "data.size: 64 -> 96" in capsys.readouterr().err
    as_if_made_before(folder)
    assert cli.main([*command, *words]) == 1
    message = "was trained on images that were shown in another way:\n  data.fit: 'stretch' -> 'pad'"
    assert message in capsys.readouterr().err
    assert open_run(folder / "runs" / "demo").windows.frame == Frame((64, 64), "stretch")
    assert cli.main([*command, "--run", str(folder / "runs" / "demo"), "device=cpu"]) == 0


def test_images_of_an_aspect_that_was_not_trained_on_are_named(drawn_run, tmp_path, capsys):
    _, words = drawn_run
    square = np.random.default_rng(0).integers(0, 200, (96, 96)).astype(np.uint8)
    for name, picture in (("square", square), ("wide", np.pad(square, ((0, 0), (48, 48))))):
        cv2.imwrite(str(tmp_path / f"{name}.png"), picture)
    images = [str(tmp_path / f"{name}.png") for name in ("square", "wide")]
    assert cli.main(["predict", *images, "-o", str(tmp_path / "out"), *words]) == 0
    told = capsys.readouterr().err
    assert "1 of 2 images have another aspect (height / width 0.50 to 0.50; wide.png)" in told
    assert "than those trained on (1.00 to 1.00): they are padded" in told
    assert cli.main(["predict", images[0], "-o", str(tmp_path / "other"), *words]) == 0
    assert "another aspect" not in capsys.readouterr().err
