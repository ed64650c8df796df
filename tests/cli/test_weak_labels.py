"""Image-level labels to masks to a segmentation model, from the command line, on tiny data."""

import json
from pathlib import Path

import pytest

from bonepipe.cli import main
from bonepipe.config import compose
from bonepipe.data import submission
from bonepipe.labels import rle
from bonepipe.labels.cutout import to_mask
from bonepipe.pipeline.experiment import Experiment

CAM = ["cam.steps=2", "cam.batch_size=4", "cam.crop=0.6", "cam.stride=32"]


@pytest.fixture
def words(tmp_path, phantom_root, monkeypatch):
    """The overrides of a tiny experiment, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    return [
        "experiment=demo", f"data.root={phantom_root}", "data.size=64", "folds.count=2", "trainer.epochs=1",
        "trainer.validate_every=1", "averaging=none", "tracking=none", "device=cpu",
    ]  # fmt: skip


def test_masks_from_image_level_labels_train_a_model(words, capsys):
    assert main(["weak-labels", "fold=0", *CAM, *words]) == 0
    assert "fold=0 name=demo-weak-0 data.masks=runs/demo/cam/fold-0/masks.csv" in capsys.readouterr().out
    folder = Path("runs") / "demo" / "cam" / "fold-0"
    first = (folder / "masks.csv").read_bytes()
    experiment = Experiment(compose(words))
    store, rows = experiment.cohort.store, {row.key: row.rle for row in submission.stream(folder / "masks.csv")}
    assert list(rows) == [(name, label) for name in store.names for label in experiment.data.classes]
    scores = json.loads((folder / "scores.json").read_text())
    training, validation = experiment.cohort.indices(0)
    for part, indices in (("training", training), ("validation", validation)):
        dice = []
        for index in indices:
            for label, true in zip(experiment.data.classes, store.truth(index), strict=True):
                mask = rle.decode(rows[store.names[index], label], store.shape(index))
                whole = to_mask(true, store.shape(index))
                dice.append((2 * (mask & whole).sum() + 1e-4) / (mask.sum() + whole.sum() + 1e-4))
        assert scores[part] == pytest.approx(sum(dice) / len(dice), abs=1e-9)
    assert main(["weak-labels", "fold=0", *CAM, *words]) == 0
    assert (folder / "masks.csv").read_bytes() == first  # the same seed, the same masks
    weak = [*words, "name=weak", "data.masks=runs/demo/cam/fold-0/masks.csv"]
    assert main(["train", "fold=0", *weak]) == 0
    assert (Path("runs") / "weak" / "fold-0" / "oof_dice.csv").is_file()
    assert len([path for path in (Path("runs") / ".store").iterdir() if path.is_dir()]) == 2
    assert sorted(path.name for path in folder.iterdir()) == ["masks.csv", "scores.json"]


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("cam.step=3", "no such key 'cam.step'; did you mean 'cam.steps'"),
        ("cam.crop=0.4", "crops of 26 x 26 pixels are too small"),
        ("cam.threshold=2", "cam.threshold=2: input should be less than or equal to 1"),
        ("cam.encoder=resnet81", "unknown encoder 'resnet81'; did you mean"),
        ("data.masks=some.csv", "image-level labels come from the annotations; set data.masks=null"),
        ("fold=7", "fold=7: there are folds 0 to 1"),
    ],
)
def test_wrong_settings_of_weak_supervision_are_refused(words, capsys, word, reason):
    assert main(["weak-labels", *CAM, *words, word]) == 2
    assert reason in capsys.readouterr().err


def test_training_on_masks_that_are_not_there_is_refused(words, capsys):
    assert main(["train", "fold=0", *words, "data.masks=runs/none.csv"]) == 1
    assert "data.masks=runs/none.csv: no such file; `bonepipe weak-labels` writes one" in capsys.readouterr().err
