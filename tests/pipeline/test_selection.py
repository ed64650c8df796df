"""select over two tiny trained runs, and over two runs whose predictions are drawn from the truth."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import interpolate

from bonepipe import cli
from bonepipe import config as configs
from bonepipe.inference.ensemble import members
from bonepipe.inference.oof import byte_maps
from bonepipe.labels.cutout import to_mask
from bonepipe.pipeline.experiment import Experiment
from bonepipe.pipeline.steps import Steps

IMAGES = 20


@pytest.fixture(scope="module")
def trained(tmp_path_factory, phantom_root):
    """Two folds each of two runs, at 64 and 96 pixels, after one epoch."""
    folder = tmp_path_factory.mktemp("select")
    for name, size in (("small", 64), ("large", 96)):
        for fold in (0, 1):
            words = [
                "experiment=debug", f"data.root={phantom_root}", f"data.size={size}", f"name={name}", f"fold={fold}",
                "folds.count=2", f"folds.file={folder / 'folds.csv'}", f"runs={folder / 'runs'}", "trainer.epochs=1",
                "trainer.train_batches=1", "trainer.batch_size=2", "averaging=none", "tta=none",
                "device=cpu", "model.encoder=tu-mobilenetv3_small_050", "model.settings.decoder_channels=[16,8,8,8,8]",
            ]  # fmt: skip
            assert cli.main(["train", *words]) == 0
    return folder / "runs"


def pretend(source, target, seed):
    """Copy a run, and replace what it predicted by the truth with smooth noise."""
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("*.ckpt"))
    experiment = Experiment(configs.load(target / "fold-0" / "config.yaml"))
    rng, store = np.random.default_rng(seed), experiment.cohort.store
    for fold in (0, 1):
        path = target / f"fold-{fold}" / "probabilities.npz"
        found = byte_maps.read(path, experiment.data.classes)
        packed = [byte_maps.pack(guess(store, store.index[name], found.shapes[0], rng)) for name in found.names]
        byte_maps.write(path, found.names, experiment.data.classes, found.shapes, packed)
    note(target)


def note(folder):
    """Have what lies in a run's folds count as what its models said."""
    for fold in folder.glob("fold-*"):
        experiment = Experiment(configs.load(fold / "config.yaml")).placed(folder)
        Steps(experiment).out_of_fold(int(fold.name.removeprefix("fold-"))).record()


def guess(store, index, shape, rng):
    truth = np.stack([to_mask(mask, store.shape(index)) for mask in store.truth(index)]).astype(np.float32)
    noise = rng.normal(0, 1.1, (1, len(truth), *(side // 4 for side in shape)))
    near, rough = resized(truth[None], shape), resized(noise, shape)
    return np.where(near > 0.02, 1 / (1 + np.exp(4 - 8 * near - rough)), 0)[0].astype(np.float32)


def resized(maps, shape):
    maps = torch.as_tensor(maps, dtype=torch.float64)
    return interpolate(maps, shape, mode="bilinear", align_corners=False).numpy()


@pytest.fixture(scope="module")
def runs(trained):
    """The two trained runs and two that know the truth but for noise of their own."""
    pretend(trained / "small", trained / "near", 1)
    pretend(trained / "large", trained / "fine", 2)
    return trained


def select(capsys, *words):
    code = cli.main(["select", *map(str, words)])
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def slow_dice(runs, names, counts):
    """Mean Dice of a mixture from whole frames at the common size, at 96 pixels, and then at the image's."""
    experiment = Experiment(configs.load(runs / "near" / "fold-0" / "config.yaml"))
    store, scores = experiment.cohort.store, []
    for fold in (0, 1):
        files = [
            byte_maps.read(runs / n / f"fold-{fold}" / "probabilities.npz", experiment.data.classes) for n in names
        ]
        for position, name in enumerate(files[0].names):
            index = store.index[name]
            maps = [resized(file.maps(position)[None], (96, 96)) for file in files]
            mask = resized(np.tensordot(counts, maps, 1) / sum(counts), store.shape(index))[0] >= 0.5
            truth = np.stack([to_mask(mask, store.shape(index)) for mask in store.truth(index)])
            both, areas = (mask & truth).sum((1, 2)), mask.sum((1, 2)) + truth.sum((1, 2))
            scores.append((2 * both + 1e-4) / (areas + 1e-4))
    assert len(scores) == IMAGES
    return np.mean(scores)


def test_runs_of_mixed_sizes_from_predictions_to_the_ensembles_file(runs, capsys, tmp_path):
    folders = [runs / name for name in ("small", "large", "near", "fine")]
    code, out, _ = select(capsys, *folders, "-o", tmp_path / "best", "--json")
    assert code == 0
    found = json.loads(out)
    assert (found["images"], found["folds"], found["runs"]) == (IMAGES, 2, ["small", "large", "near", "fine"])
    for counts, name in (((1, 0), "near"), ((0, 1), "fine"), ((1, 1), "near + fine")):
        assert found["mixtures"][name] == pytest.approx(slow_dice(runs, ("near", "fine"), counts), abs=2e-3)
    assert found["mixtures"]["near + fine"] > max(found["mixtures"][name] for name in ("near", "fine")) + 0.01
    assert len(found["mixtures"]) == 4 + 6
    assert found["counts"]["small"] == found["counts"]["large"] == 0
    assert found["counts"]["near"] * found["counts"]["fine"] > 0
    assert found["cross_fitted_gain"] > 2 * found["standard_error"] > 0
    assert found["path"][0]["mixture"] == found["best_run"]
    assert np.all(np.diff([step["dice"] for step in found["path"]]) > 0)
    assert found["bytes"] < 5e6
    path = tmp_path / "best" / "ensemble.yaml"
    assert found["command"] == f"bonepipe ensemble {path} -o {path.parent}"
    weights = {Path(entry.run).name: entry.weight for entry in members.read(path).members}
    assert weights == {name: count for name, count in found["counts"].items() if count}
    assert [entry.run for entry in members.read(path).members] == [str(folder) for folder in folders[2:]]


def test_what_people_read(runs, capsys, tmp_path):
    output = tmp_path / "best"
    code, out, _ = select(capsys, runs / "near", runs / "fine", "-o", output, "--per-class", "--thresholds")
    assert code == 0
    assert "2 runs, 20 images in 2 folds, 29 classes; " in out
    assert "near + fine gains +" in out or "x near" in out or "x fine" in out
    assert f"  bonepipe ensemble {output / 'ensemble.yaml'} -o {output}\n" in out
    assert "mixture of" in out
    assert members.read(output / "ensemble.yaml").weights(Experiment(config(runs)).data.classes).shape[1] == 29


def config(runs):
    return configs.load(runs / "near" / "fold-0" / "config.yaml")


def test_one_run_as_good_as_all_is_said_to_be(runs, capsys, tmp_path):
    shutil.copytree(runs / "near", tmp_path / "twin")
    code, out, _ = select(capsys, runs / "near", tmp_path / "twin", "-o", tmp_path / "best", "--per-class")
    assert code == 0
    assert "One run alone is as good: no mixture beats near by more than 2 standard errors." in out
    assert "near is the best single run in every class" in out
    assert "No class gains more than noise from a mixture of its own." in out
    (entry,) = members.read(tmp_path / "best" / "ensemble.yaml").members
    assert entry == members.Entry(run=str(runs / "near"))


@pytest.fixture
def broken(runs, tmp_path):
    """A copy of a run to be damaged."""
    return Path(shutil.copytree(runs / "near", tmp_path / "broken"))


def refused(capsys, code, *words):
    found, _, err = select(capsys, *words)
    assert found == code
    return err


def test_wrong_usage_is_refused(runs, capsys, tmp_path):
    near, fine, output = runs / "near", runs / "fine", tmp_path / "best"
    assert "at least two runs" in refused(capsys, 2, near, "-o", output)
    assert "none of them twice" in refused(capsys, 2, near, fine, f"{fine}/", "-o", output)
    assert "holds a run" in refused(capsys, 2, near, fine, "-o", fine)
    assert "--steps=0: from 1" in refused(capsys, 2, near, fine, "-o", output, "--steps", 0)
    assert "--margin=nan: not below 0" in refused(capsys, 2, near, fine, "-o", output, "--margin", "nan")
    assert "nowhere: no such folder" in refused(capsys, 1, near, runs / "nowhere", "-o", output)
    assert not output.exists()


def test_runs_that_are_not_finished_are_named_with_the_way_out(runs, broken, capsys, tmp_path):
    words = runs / "near", broken, "-o", tmp_path / "best"
    (broken / "fold-1" / "probabilities.npz").rename(tmp_path / "aside.npz")
    message = refused(capsys, 1, *words)
    assert "broken/fold-1: is not predicted out of fold, or was in another way:\n  probabilities.npz\n" in message
    assert "Run `bonepipe train-all` with the run's settings first" in message
    (broken / "fold-1" / "oof_dice.csv").unlink()
    message = refused(capsys, 1, *words)
    assert "broken/fold-1: is not predicted out of fold" in message and "oof_dice.csv" in message
    shutil.rmtree(broken / "fold-0")
    assert "broken/fold-0: is not trained yet; run `bonepipe train-all`" in refused(capsys, 1, *words)
    shutil.rmtree(broken / "fold-1")
    assert "broken: no run here" in refused(capsys, 1, *words)
    assert not (tmp_path / "best").exists()


def rewrite(path, classes=None, names=None):
    experiment_classes = np.load(path)["classes"].tolist()
    found = byte_maps.read(path, experiment_classes)
    packed = [byte_maps.pack(found.maps(index)) for index in range(len(found.names))]
    byte_maps.write(path, names or found.names, classes or experiment_classes, found.shapes, packed)


def test_runs_of_other_classes_or_images_are_named(runs, broken, capsys, tmp_path):
    words = runs / "near", broken, "-o", tmp_path / "best"
    path = broken / "fold-0" / "config.yaml"
    settings = configs.load(path)
    classes = [*settings["data"]["classes"][:-1], "Tail"]
    configs.save({**settings, "data": {**settings["data"], "classes": classes}}, path)
    for fold in (0, 1):
        rewrite(broken / f"fold-{fold}" / "probabilities.npz", classes=classes)
    note(broken)
    err = refused(capsys, 1, *words)
    assert "broken: has other classes (" in err
    assert "Tail" in err
    configs.save(settings, path)
    for fold in (0, 1):
        names = [f"{fold}-{number}.png" for number in range(10)]
        rewrite(broken / f"fold-{fold}" / "probabilities.npz", settings["data"]["classes"], names)
    note(broken)
    assert "broken: predicted other images than" in refused(capsys, 1, *words)


def test_images_of_one_run_only_are_left_out_with_a_warning(runs, broken, capsys, tmp_path):
    path = broken / "fold-1" / "probabilities.npz"
    names = np.load(path)["names"].tolist()
    rewrite(path, names=["other.png", *names[1:]])
    note(broken)
    code, out, err = select(capsys, runs / "fine", broken, "-o", tmp_path / "best", "--json")
    assert code == 0
    assert json.loads(out)["images"] == IMAGES - 1
    assert "warning: " in err
    assert names[0] in err or "other.png" in err


def test_runs_whose_data_has_moved_are_told_where(runs, tmp_path, phantom_root, capsys):
    for name in ("near", "fine"):
        shutil.copytree(runs / name, tmp_path / name)
        for path in (tmp_path / name).rglob("config.yaml"):
            path.write_text(re.sub(r"root: .*", "root: /gone", path.read_text(), count=1))
    words = [tmp_path / "near", tmp_path / "fine", "-o", tmp_path / "best"]
    code, _, err = select(capsys, *words)
    assert code == 1
    assert "data.root" in err
    code, _, err = select(capsys, *words, f"data.root={phantom_root}")
    assert code == 0, err
    assert "here data.root can be set" in refused(capsys, 2, *words, "trainer.epochs=3")
