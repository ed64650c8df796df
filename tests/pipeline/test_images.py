"""predict, suspects and pseudo on a finished experiment: a network of random weights, and predictions made by hand."""

import csv
import json
import os
import shutil

import cv2
import numpy as np
import pytest

from bonepipe import cli
from bonepipe import config as configs
from bonepipe.commands.predictor import run_source
from bonepipe.data import submission
from bonepipe.data.annotation import read_annotation
from bonepipe.data.catalog import test_images as find_test_images
from bonepipe.data.phantom.annotation import PERMUTATION
from bonepipe.inference.oof.results import predict_fold
from bonepipe.labels import bitplane, polygon, rle
from bonepipe.pipeline.experiment import Experiment, seed_everything
from bonepipe.training.fit import save_weights


def settings(root, folder):
    return [
        "experiment=demo", f"data.root={root}", "data.size=64", "folds.count=2", f"folds.file={folder / 'folds.csv'}",
        "model=mobile_unet", "model.encoder_weights=null", f"runs={folder / 'runs'}", "tracking=none", "device=cpu",
        "tta=none",
    ]  # fmt: skip


def blurred_truth(experiment, fold):
    """A stand-in for a trained network out of fold: the true mask, blurred, as a probability a little too small."""
    store, (_, validation) = experiment.cohort.store, experiment.cohort.indices(fold)
    done = iter(validation)

    def predict(images):
        import torch

        maps = []
        for _ in range(len(images)):
            mask = bitplane.unpack(store.planes[next(done)], len(experiment.data.classes)).astype(np.float32)
            maps.append(0.8 * np.stack([cv2.GaussianBlur(mask[..., c], (3, 3), 0) for c in range(mask.shape[2])]))
        return torch.from_numpy(np.stack(maps))

    return predict, validation


def undecided(model):
    """Probabilities on both sides of one half: a new network starts far below."""
    head = model.network.segmentation_head[0]
    head.bias.data.zero_()
    head.weight.data.mul_(40)
    return model


@pytest.fixture(scope="module")
def finished(tmp_path_factory, phantom_root):
    """Two folds: weights as they were drawn, and out-of-fold predictions near the truth."""
    folder = tmp_path_factory.mktemp("finished")
    words = settings(phantom_root, folder)
    experiment = Experiment(configs.compose(words))
    classes = experiment.data.classes
    for fold in (0, 1):
        seed_everything(fold)
        here = experiment.fold_folder(fold)
        configs.save(experiment.config, here / "config.yaml")
        facts = {"classes": classes, "augmentations": experiment.augmentation.names, "fold": fold}
        save_weights(undecided(experiment.model()), here / "weights.safetensors", facts)
        (here / "metrics.csv").write_text("epoch\n")
        predict, validation = blurred_truth(experiment, fold)
        predict_fold(predict, experiment.cohort.store, validation, classes, here, 4)
    (experiment.folder / "thresholds.json").write_text(json.dumps({"thresholds": dict.fromkeys(classes, 0.52)}))
    (experiment.folder / "source.json").write_text(json.dumps(run_source(experiment)))
    return folder, words


def copy_or_link(source, target):
    """Weights and stores are large and never written again."""
    (os.link if source.endswith((".safetensors", ".npy", ".npz")) else shutil.copy2)(source, target)


@pytest.fixture
def copied(finished, tmp_path):
    """A copy that may be changed, and its overrides."""
    folder, words = finished
    shutil.copytree(folder, tmp_path / "copy", copy_function=copy_or_link)
    return tmp_path / "copy", [*words, f"runs={tmp_path / 'copy' / 'runs'}"]


def rows_of(path):
    return {row.key: row.rle for row in submission.stream(path)}


def test_predict_agrees_with_submit_and_its_outputs_with_each_other(copied, phantom_root, tmp_path, capsys):
    _, words = copied
    experiment = Experiment(configs.compose(words))
    (experiment.folder / "scores.json").write_text("{}")
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


def test_predict_goes_on_where_it_stopped(finished, chest_root, tmp_path, capsys):
    """Files of mixed sizes and modes; what is there is kept, --force makes it anew, a broken file is named."""
    _, words = finished
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


def test_predict_finds_radiographs_of_every_kind(finished, phantom_root, tmp_path, capsys):
    """The same pixels give the same masks, whatever their file; results name the files as they are named."""
    _, words = finished
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
    (pictures / "more" / "g.dcm").write_bytes(bytes(128) + b"DICM")
    command = ["predict", str(pictures), "-o", str(out), *words]
    assert cli.main(command) == 0
    rows = rows_of(out / "predictions.csv")
    names = ["a.PNG", "b.bmp", "c.TIFF", "e.JPG", "d.tif", "f.Jpeg"]
    assert list(dict.fromkeys(image for image, _ in rows)) == names
    labels = [label for image, label in rows if image == "a.PNG"]
    assert len(labels) == 29
    codes = {name: [rows[name, label] for label in labels] for name in names}
    assert any(codes["a.PNG"])
    assert codes["b.bmp"] == codes["c.TIFF"] == codes["d.tif"] == codes["a.PNG"]
    for name in ("e.JPG", "f.Jpeg"):
        near = [rle.dice(*pair) for pair in zip(codes[name], codes["a.PNG"], strict=True) if any(pair)]
        assert np.mean(near) > 0.8
    for name in names:
        stem = name.partition(".")[0]
        assert json.loads((out / "polygons" / f"{stem}.json").read_text())["filename"] == name
        assert cv2.imread(str(out / "overlays" / f"{stem}.jpg")).shape[:2] == grey.shape
        assert len(list((out / "masks" / stem).glob("*.png"))) == 29
    capsys.readouterr()
    assert cli.main(command) == 0, "its own results, in a folder among the images, are none"
    assert "6 images are finished already" in capsys.readouterr().err


def test_predict_does_not_mix_predictions_of_other_weights(copied, chest_root, tmp_path, capsys):
    folder, words = copied
    picture = next((chest_root / "test").rglob("*.png"))
    command = ["predict", str(picture), "-o", str(tmp_path / "out"), *words]
    assert cli.main(command) == 0
    thresholds = next(folder.rglob("thresholds.json"))
    thresholds.write_text(thresholds.read_text().replace("0.52", "0.6"))
    assert cli.main(command) == 1
    assert "holds predictions of other weights, views or thresholds" in capsys.readouterr().err
    assert cli.main([*command, "--force"]) == 0


def test_an_image_of_the_same_name_is_another_image(copied, chest_root, phantom_root, tmp_path, capsys):
    """Nor are the results of other weights taken for finished, whatever was forced in between."""
    folder, words = copied
    for number, root in enumerate((chest_root, phantom_root)):
        (tmp_path / str(number)).mkdir()
        shutil.copy(next((root / "test").rglob("*.png")), tmp_path / str(number) / "hand.png")
    shutil.copy(tmp_path / "0" / "hand.png", tmp_path / "0" / "more.png")
    out = tmp_path / "out=1"
    first, second = (["predict", str(tmp_path / name), "-o", str(out), *words] for name in "01")
    assert main_of(first, capsys) == ""
    before = rows_of(out / "predictions.csv")
    assert "finished already" not in main_of(second, capsys)
    assert rows_of(out / "predictions.csv") != {key: before[key] for key in before if key[0] == "hand.png"}
    thresholds = next(folder.rglob("thresholds.json"))
    thresholds.write_text(thresholds.read_text().replace("0.52", "0.6"))
    assert cli.main([*second, "--force"]) == 0
    assert "finished already" not in main_of(first, capsys)
    assert "2 images are finished already" in main_of(first, capsys)


def main_of(words, capsys):
    """What a command that ends well tells beside its results, without its bars."""
    capsys.readouterr()
    assert cli.main(words) == 0
    return "".join(line for line in capsys.readouterr().err.splitlines() if "already" in line)


def test_predict_refuses_what_it_cannot_find(finished, chest_root, tmp_path, capsys):
    _, words = finished
    picture = next((chest_root / "test").rglob("*.png"))
    shutil.copy(picture, tmp_path / picture.name)
    (tmp_path / f"{picture.stem}.jpg").touch()
    (tmp_path / "hand.dcm").touch()
    (tmp_path / "IM0001").write_bytes(bytes(128) + b"DICM" + bytes(99))
    for given, message in (
        ([tmp_path / "none.png"], "none.png: no such file"),
        ([tmp_path / "empty"], "empty: no images in this folder (.png, .jpg, .jpeg, .tif, .tiff, .bmp); DICOM has to"),
        ([picture, tmp_path / picture.name], "one name twice"),
        ([picture, tmp_path / f"{picture.stem}.jpg"], "one name twice, suffixes aside"),
        ([tmp_path / "hand.dcm"], "hand.dcm: is a DICOM file, which is not read; export it as PNG first"),
        ([tmp_path / "IM0001"], "IM0001: is a DICOM file"),
    ):
        (tmp_path / "empty" / "folder.png").mkdir(parents=True, exist_ok=True)
        assert cli.main(["predict", *map(str, given), "-o", str(tmp_path / "out"), *words]) == 1
        assert message in capsys.readouterr().err
    unfinished = [*words, "name=other"]
    assert cli.main(["predict", str(picture), "-o", str(tmp_path / "out"), *unfinished]) == 1
    assert "is not trained yet" in capsys.readouterr().err


def plant(root, copy):
    """A copy of the phantom in which one image's labels are permuted, one lacks a bone, and one has a ring."""
    shutil.copytree(root, copy)
    paths = sorted((copy / "train" / "outputs_json").rglob("*.json"))[2:9:3]
    contents = [json.loads(path.read_text()) for path in paths]
    for entry in contents[0]["annotations"]:
        entry["label"] = PERMUTATION.get(entry["label"], entry["label"])
    contents[1]["annotations"] = [e for e in contents[1]["annotations"] if e["label"] != "Radius"]
    bone = next(e for e in contents[2]["annotations"] if e["label"] == "finger-14")
    points = np.array(bone["points"])
    inner = np.rint(points.mean(0) + (points - points.mean(0)) * 0.4).astype(int)
    contents[2]["annotations"].append({**bone, "points": inner.tolist()})
    for path, content in zip(paths, contents, strict=True):
        path.write_text(json.dumps(content))
    known = zip(("permuted", "missing", "ring"), (" ".join(PERMUTATION), "Radius", "finger-14"), paths, strict=True)
    rows = [f"{path.stem}.png,x,{kind},{labels}" for kind, labels, path in known]
    (copy / "planted.csv").write_text("\n".join(["image_name,patient,kind,classes", *rows]) + "\n")
    return [path.with_suffix(".png").name for path in paths]


@pytest.fixture
def spoiled(copied, phantom_root, tmp_path):
    """The finished experiment after somebody spoiled three annotations; the predictions stay."""
    folder, words = copied
    names = plant(phantom_root, tmp_path / "spoiled")
    return names, [*words, f"data.root={tmp_path / 'spoiled'}"], folder / "runs" / "demo"


def test_suspects_ranks_planted_annotations_first(spoiled, capsys):
    names, words, run = spoiled
    assert cli.main(["suspects", *words]) == 0
    with (run / "suspects.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {(row["image_name"], row["kind"]) for row in rows[:3]} == set(
        zip(names, ("permuted", "missing", "extra"), strict=True)
    )
    scores = [float(row["score"]) for row in rows]
    assert scores == sorted(scores, reverse=True)
    assert [row["rank"] for row in rows] == [str(number) for number in range(1, len(rows) + 1)]
    missing = next(row for row in rows if row["kind"] == "missing")
    assert (missing["class"], missing["suggestion"]) == ("Radius", "replace")
    assert all(cv2.imread(str(path)) is not None for path in [run / "suspects.jpg", *(run / "suspects").iterdir()])
    assert len(list((run / "suspects").iterdir())) == min(40, len(rows))
    told = capsys.readouterr().out
    assert names[0] in told
    assert "planted.csv: permuted: 1 of 1 among the first 6 candidates, 1 mended by permuting labels" in told
    assert "planted.csv: all: 3 of 3 among the first 6 candidates" in told


def test_suggested_corrections_mend_the_training_labels(spoiled, phantom_root):
    """The permuted image gets the labels of the unspoiled dataset, bit for bit; the missing bone comes back."""
    names, words, run = spoiled
    assert cli.main(["suspects", *words]) == 0
    stores = [
        Experiment(configs.compose(more)).cohort.store
        for more in (
            words,
            [*words, f"data.corrections={run / 'corrections.csv'}"],
            [*words, f"data.root={phantom_root}"],
        )
    ]
    wrong, mended, right = (
        [bitplane.unpack(store.planes[store.names.index(name)], 29) for name in names] for store in stores
    )
    assert (mended[0] == right[0]).all()
    assert (wrong[0] != right[0]).any()
    radius = 27
    assert not wrong[1][..., radius].any()
    common = (mended[1] & right[1])[..., radius].sum()
    assert 2 * common / (mended[1][..., radius].sum() + right[1][..., radius].sum()) > 0.8
    assert (mended[2] == right[2]).all()


def test_corrections_that_somebody_edited_are_kept(spoiled, capsys):
    names, words, run = spoiled
    (run / "corrections.csv").write_text("image_name,class,action,value\n")
    assert cli.main(["suspects", *words]) == 0
    assert "corrections.new.csv" in capsys.readouterr().err
    assert (run / "corrections.csv").read_text() == "image_name,class,action,value\n"
    assert names[0] in (run / "corrections.new.csv").read_text()


def test_a_dropped_image_is_validated_and_not_trained_on(finished, tmp_path):
    _, words = finished
    experiment = Experiment(configs.compose(words))
    name = experiment.cohort.images[3].name
    path = tmp_path / "c.csv"
    path.write_text(f"image_name,class,action,value\n{name},,drop,\n")
    mended = Experiment(configs.compose([*words, f"data.corrections={path}"]))
    for fold in (0, 1):
        (training, validation), (fewer, same) = experiment.cohort.indices(fold), mended.cohort.indices(fold)
        assert same == validation
        assert set(training) - set(fewer) == ({3} - set(validation))


def test_thresholds_that_were_chosen_from_other_predictions_are_refused(copied, capsys):
    folder, words = copied
    path = folder / "runs" / "demo" / "fold-1" / "oof_dice.csv"
    path.write_text(path.read_text().replace("0.", "0.0", 1))  # as if the fold were trained anew
    for command in ("submit", "pseudo"):
        assert cli.main([command, *words]) == 1
        assert "folds.fold-1 is not what it was; run `bonepipe train-all`" in capsys.readouterr().err


def test_suspects_need_predictions_of_this_data(copied, capsys):
    folder, words = copied
    path = folder / "runs" / "demo" / "fold-1" / "oof.csv"
    text = path.read_text()
    path.write_text(text.replace("Ulna", "Elbow"))
    assert cli.main(["suspects", *words]) == 1
    assert "lacks Ulna of" in capsys.readouterr().err
    path.unlink()
    assert cli.main(["suspects", *words]) == 1
    assert "fold-1/oof.csv: fold 1 has no out-of-fold predictions yet" in capsys.readouterr().err


def test_pseudo_labels_are_the_sure_pixels_of_the_ensemble(copied, capsys):
    folder, words = copied
    run = folder / "runs" / "demo"
    assert cli.main(["pseudo", "--raw", "--confidence", "0.52", *words]) == 0
    experiment = Experiment(configs.compose(words))
    (run / "scores.json").write_text("{}")
    assert cli.main(["submit", *words]) == 0
    high = rows_of(run / "submission.csv")  # the thresholds of this experiment are 0.52
    labels = experiment.data.classes
    (run / "thresholds.json").write_text(json.dumps({"thresholds": dict.fromkeys(labels, 1 - 0.52)}))
    assert cli.main(["submit", *words]) == 0
    low = rows_of(run / "submission.csv")
    with (run / "pseudo.csv").open(newline="") as file:
        rows = {(row["image_name"], row["class"]): row for row in csv.DictReader(file)}
    assert {key: row["rle"] for key, row in rows.items()} == high
    for key, row in rows.items():
        assert rle.union(row["rle"], row["ambiguous"]).tolist() == rle.parse(low[key]).tolist()
        assert rle.intersection_area(row["rle"], row["ambiguous"]) == 0
    facts = json.loads((run / "pseudo.json").read_text())
    assert (facts["experiment"], facts["confidence"], facts["images"]) == ("demo", 0.52, 8)
    assert set(facts["weights"]) == {"fold-0", "fold-1"}
    assert all(len(digest) == 64 for digest in facts["weights"].values())
    assert facts["sure_pixels"] == sum(rle.area(text) for text in high.values())


def test_pseudo_calibrates_by_what_was_right_out_of_fold(copied):
    """The stand-in says 0.8 where it is surely right, so that raw probabilities never reach 0.9."""
    folder, words = copied
    assert cli.main(["pseudo", *words]) == 0
    facts = json.loads((folder / "runs" / "demo" / "pseudo.json").read_text())
    assert all(0.3 < facts["sure_from"][label] < 0.8 for label in ("Radius", "finger-3", "Capitate"))
    assert all(facts["possible_from"][label] <= facts["sure_from"][label] for label in facts["sure_from"])


def test_pseudo_labelled_images_are_trained_on_and_never_validate(copied):
    folder, words = copied
    path = folder / "runs" / "demo" / "pseudo.csv"
    assert cli.main(["pseudo", "--raw", "--confidence", "0.52", *words]) == 0
    plain = Experiment(configs.compose(words))
    more = Experiment(configs.compose([*words, f"data.pseudo={path}", "data.pseudo_weight=0.3"]))
    count = len(plain.cohort.images)
    assert len(more.cohort.images) == count + 8
    for fold in (0, 1):
        (training, validation), (longer, same) = plain.cohort.indices(fold), more.cohort.indices(fold)
        assert same == validation
        assert longer == [*training, *range(count, count + 8)]
    assert plain.cohort.shares is None
    assert more.cohort.shares.tolist() == pytest.approx([1.0] * count + [0.3] * 8)
    sure = {row["image_name"]: row for row in csv.DictReader(path.open(newline="")) if row["class"] == "Radius"}
    index = count + 2
    mask = rle.decode(sure[more.cohort.images[index].name]["rle"], more.cohort.store.shape(index))
    small = mask[2::4, 2::4]  # 256 to 64 pixels: the nearest of four is either of the middle two
    drawn = bitplane.unpack(more.cohort.store.planes[index], 29)[..., 27]
    assert (drawn == small).all()


@pytest.mark.parametrize("confidence", ["0.5", "1", "nan"])
def test_a_confidence_that_means_nothing_is_wrong_usage(confidence, capsys):
    assert cli.main(["pseudo", "--confidence", confidence]) == 2
    assert "above 0.5 and below 1" in capsys.readouterr().err


def test_training_runs_on_mended_and_pseudo_labelled_data(copied):
    """One epoch with everything on: the loss sees ignored pixels and shares, and the fold ends with its results."""
    folder, words = copied
    run = folder / "runs" / "demo"
    assert cli.main(["pseudo", *words]) == 0
    name = Experiment(configs.compose(words)).cohort.images[1].name
    (run / "c.csv").write_text(f"image_name,class,action,value\n{name},Radius,drop,\n{name},,drop,\n")
    more = [
        *words, "name=second", f"data.pseudo={run / 'pseudo.csv'}", f"data.corrections={run / 'c.csv'}", "fold=1",
        "trainer.epochs=1", "trainer.validate_every=1", "averaging=none", "mixing=cutmix",
    ]  # fmt: skip
    assert cli.main(["train", *more]) == 0
    assert (folder / "runs" / "second" / "fold-1" / "oof_dice.csv").is_file()
