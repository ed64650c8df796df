"""With and without the CRF: a class that it mends, one that it hurts, one that it leaves alone."""

import csv
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from bonepipe.data.frame import Frame
from bonepipe.errors import BonepipeError
from bonepipe.inference.oof import byte_maps, results
from bonepipe.inference.oof.predict import Validation
from bonepipe.inference.postprocess import crf_choice
from bonepipe.inference.postprocess.crf import CrfSpec, apply_crf
from bonepipe.labels.cutout import from_mask

CLASSES = ("Solid", "Thin", "Sure")
SIDE, SPEC = 32, CrfSpec()
MARGIN = 0.5  # standard errors, of six images
PATIENTS = {f"{index}.png": str(index) for index in range(6)}
FOLDS = {0: [0, 1], 1: [2, 3], 2: [4, 5]}


def truths(index):
    """The true masks `[3, SIDE, SIDE]`: a block, lines of one pixel, another block."""
    masks = np.zeros((3, SIDE, SIDE), bool)
    masks[0, 6 : 20 + index, 8:24] = True
    masks[1, 2 + index : 30 : 6, 4:28] = True
    masks[2, 4:12, 4 : 12 + index] = True
    return masks


def predictions(index):
    """Probabilities: the block with wrong pixels strewn in, the lines faintly right, the other block for certain."""
    rng, maps = np.random.default_rng(index), np.where(truths(index), 0.75, 0.15)
    wrong = rng.random((SIDE, SIDE)) < 0.06
    maps[0][wrong] = 0.9 - maps[0][wrong]
    maps[1] = np.where(truths(index)[1], 0.55, 0.15)
    maps[2] = truths(index)[2]
    return torch.from_numpy(maps.astype(np.float32))


@pytest.fixture(scope="module")
def predicted(tmp_path_factory):
    """Three folds predicted with the CRF, and how many batches the network saw."""
    root, batches = tmp_path_factory.mktemp("variants"), []
    store = SimpleNamespace(
        names=tuple(f"{index}.png" for index in range(6)),
        shape=lambda index: (SIDE, SIDE),
        frame=Frame((SIDE, SIDE)),
        truth=lambda index: [from_mask(mask) for mask in truths(index)],
    )

    def predict(images):
        batches.append(len(images))
        return torch.stack([predictions(int(image[0, 0]) - 100) for image in images])

    folders = []
    for fold, indices in FOLDS.items():
        folders.append(root / f"fold-{fold}")
        folders[-1].mkdir()
        greys = {index: torch.full((SIDE, SIDE), 100 + index, dtype=torch.uint8) for index in indices}
        images = [{"image": grey, "shape": torch.tensor(grey.shape), "index": i} for i, grey in greys.items()]
        validation = Validation(store, indices, CLASSES, folders[-1], 1, 0, images)
        plain, refined = crf_choice.predict_fold_with_crf(predict, SPEC, validation)
        assert plain.shape == refined.shape == (2, 3)
        assert all((path / name).is_file() for path in paths(folders[-1]) for name in results.FILES)
    assert batches == [1] * 6
    return folders


def table(folder, name):
    with (folder / name).open() as file:
        return list(csv.DictReader(file))


def test_before_a_choice_a_fold_holds_the_crf_for_all_classes(predicted):
    for folder in predicted:
        for name in ("oof.csv", "oof_dice.csv"):
            assert (folder / name).read_bytes() == (folder / "crf" / name).read_bytes()
            assert (folder / name).read_bytes() != (folder / "plain" / name).read_bytes()


def test_only_the_class_that_gains_beyond_noise_keeps_the_crf(predicted):
    chosen = crf_choice.choose_crf_classes(predicted, CLASSES, PATIENTS, MARGIN)
    assert crf_choice.refined_classes(chosen, CLASSES) == ["Solid"]
    rows = {name: [r for path in predicted for r in table(path / name, "oof_dice.csv")] for name in ("plain", "crf")}
    dice = {name: np.array([float(row["dice"]) for row in found]) for name, found in rows.items()}
    gain = (dice["crf"] - dice["plain"]).reshape(6, 3).mean(0)
    assert gain[0] > 0.02 and gain[1] < -0.02 and gain[2] == 0
    assert chosen.change.mean(0)[0] == pytest.approx(chosen.gain[0]) and chosen.gain[0] > 0.02
    assert not chosen.change[:, 1:].any()


def test_each_variant_is_judged_with_thresholds_of_its_own(tmp_path):
    """The CRF's Dice is 0.75 at 0.5 and 0.9 at 0.25, where the plain one stays at 0.8."""
    counts = {"plain": {230: (20, 80), 0: (900, 20)}, "crf": {230: (0, 60), 100: (10, 30), 0: (910, 10)}}
    folders = [tmp_path / f"fold-{fold}" for fold in range(3)]
    for folder in folders:
        for variant, bins in counts.items():
            (folder / variant).mkdir(parents=True)
            hist = np.zeros((2, 1, 2, 256), np.int64)
            for place, pair in bins.items():
                hist[:, 0, :, place] = pair
            np.savez(folder / variant / "histograms.npz", names=["x", "y"], classes=["Bone"], counts=hist)
    chosen = crf_choice.choose_crf_classes(folders, ["Bone"], {"x": "a", "y": "b"}, margin=0.0)
    assert chosen.operations == [("crf",)]
    assert chosen.gain == pytest.approx([0.1], abs=1e-4)
    at_half = [results.read_curves(folders[0] / name / "histograms.npz", ["Bone"])[1][0, 0, 128] for name in counts]
    assert at_half == pytest.approx([0.8, 0.75], abs=1e-4)


def test_merged_files_equal_each_class_variant_exactly(predicted):
    refined = ["Solid", "Sure"]
    for folder in predicted:
        crf_choice.merge(folder, CLASSES, refined)
        for name in ("oof.csv", "oof_dice.csv"):
            mixed, plain, crf = (table(path, name) for path in (folder, folder / "plain", folder / "crf"))
            assert mixed == [c if c["class"] in refined else p for p, c in zip(plain, crf, strict=True)]
        counts = [results.read_counts(path / "histograms.npz", CLASSES)[1] for path in paths(folder)]
        packed = [byte_maps.read(path / "probabilities.npz", CLASSES) for path in paths(folder)]
        for label, source in enumerate([2, 1, 2]):
            np.testing.assert_array_equal(counts[0][:, label], counts[source][:, label])
            for index in range(2):
                (box, values), (own_box, own) = (packed[n].pieces(index)[label] for n in (0, source))
                assert box == own_box
                np.testing.assert_array_equal(values, own)
        assert not np.array_equal(counts[0][:, 1], counts[2][:, 1])


def paths(folder):
    return folder, folder / "plain", folder / "crf"


def test_only_the_named_classes_are_refined():
    maps, images = torch.stack([predictions(0), predictions(3)]), torch.full((2, SIDE, SIDE), 90, dtype=torch.uint8)
    whole = apply_crf(maps, images, SPEC)

    @torch.inference_mode()  # as the networks are run
    def predict(_):
        return maps.clone()

    mixed = crf_choice.with_crf(predict, SPEC, [False, True, False])(images)
    torch.testing.assert_close(mixed[:, 1], whole[:, 1], rtol=0, atol=1e-6)
    assert torch.equal(mixed[:, [0, 2]], maps[:, [0, 2]])
    assert torch.equal(crf_choice.with_crf(predict, SPEC, [True] * 3)(images), whole)
    assert crf_choice.with_crf(predict, SPEC, [False] * 3) is predict


def test_variants_of_other_images_are_refused_and_removed(predicted, tmp_path):
    shutil.copytree(predicted[0], tmp_path / "fold-0")
    shutil.rmtree(tmp_path / "fold-0" / "plain")
    shutil.copytree(predicted[1] / "plain", tmp_path / "fold-0" / "plain")
    with pytest.raises(BonepipeError, match="other images"):
        crf_choice.merge(tmp_path / "fold-0", CLASSES, [])
    crf_choice.clear(tmp_path / "fold-0")
    assert not any(path.is_dir() for path in (tmp_path / "fold-0").iterdir())
