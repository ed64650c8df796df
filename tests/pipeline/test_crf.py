"""The dense CRF for the classes that gain by it: from two folds with drawn weights to submissions."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from bonepipe import config as configs
from bonepipe.cli import main
from bonepipe.data import submission
from bonepipe.pipeline.experiment import Experiment
from bonepipe.pipeline.steps import Steps

HALF = "thresholds.margin=1e9"  # which no gain exceeds
CRF = "postprocess.crf={iterations: 2, radius: 2}"


def words_of(name, root):
    return [
        "experiment=demo", f"name={name}", f"data.root={root}", "data.size=64", "folds.count=2", "tta=none",
        "model=unet", "model.width=4", "device=cpu", "tracking=none", "thresholds.margin=0",
    ]  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory, phantom_root, draw_weights):
    """The words of a run with a CRF whose folds are predicted and summarised, the current folder being its own."""
    folder = tmp_path_factory.mktemp("crf")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        words = [*words_of("crf", phantom_root), CRF]
        draw_weights(Experiment(configs.compose(words)))
        for fold in (0, 1):
            assert main(["train", f"fold={fold}", *words]) == 0
        assert main(["train-all", *words]) == 0
        yield words


def read_thresholds(name):
    return json.loads(Path(f"runs/{name}/thresholds.json").read_text())


def set_refined(words, classes):
    """Have these classes keep the CRF, and all threshold 0.5, as if the cross-validation had said so."""
    path, record = Path("runs/crf/thresholds.json"), read_thresholds("crf")
    half = dict.fromkeys(record["thresholds"], 0.5)
    path.write_text(json.dumps(record | {"crf": list(classes), "thresholds": half}))
    Steps(Experiment(configs.compose(words))).cross_validation().record()


def masks(name):
    rows = submission.stream(Path(f"runs/{name}/submission.csv"))
    return {row.key: row.rle for row in rows}


def stamps():
    """When the variants were written, and what the folds' own tables say."""
    found = {path: path.stat().st_mtime_ns for path in Path("runs/crf").glob("fold-*/*/*")}
    assert len(found) == 16
    return found, [path.read_bytes() for path in sorted(Path("runs/crf").glob("fold-*/*.csv"))]


def test_train_all_chooses_the_classes_and_is_idempotent(run, capsys):
    record, classes = read_thresholds("crf"), Experiment(configs.compose(run)).data.classes
    gains = np.array([record["crf_gain"][name] for name in classes])
    assert 0 < len(record["crf"]) < len(classes)
    assert min(record["crf_gain"][name] for name in record["crf"]) > 0 > gains.min()
    before = stamps()
    assert main(["train-all", *run]) == 0
    assert "done already" in capsys.readouterr().err
    Path("runs/crf/scores.json").unlink()  # so that all is chosen once more
    assert main(["train-all", *run]) == 0
    out = capsys.readouterr()
    kept = gains[[name in record["crf"] for name in classes]].sum() / len(classes)
    assert f"dense CRF: kept for {len(record['crf'])} of {len(classes)} classes, {kept:+.4f}" in out.out
    assert "out of fold:" not in out.err
    assert stamps() == before
    assert read_thresholds("crf") == record
    assert main(["train", "fold=0", *run]) == 0
    assert "done already" in capsys.readouterr().err


def test_submit_refines_the_chosen_classes_only(run, phantom_root, capsys):
    shutil.copytree("runs/crf", "runs/none")
    none = [*words_of("none", phantom_root), HALF]
    for fold in (0, 1):
        assert main(["train", f"fold={fold}", *none]) == 0  # predicted anew, without variants
    assert main(["train-all", *none]) == 0
    assert not list(Path("runs/none").glob("fold-*/*/"))
    assert "crf" not in read_thresholds("none")
    assert main(["submit", *none]) == 0
    classes = Experiment(configs.compose(run)).data.classes
    chosen, found = set(classes[::2]), {}
    for title, names in (("all", classes), ("no", ()), ("some", chosen)):
        set_refined(run, names)
        assert main(["submit", *run]) == 0
        found[title] = masks("crf")
    assert found["no"] == masks("none")
    assert found["all"] != found["no"]
    assert found["some"] == {key: found["all" if key[1] in chosen else "no"][key] for key in found["no"]}
    assert main(["ensemble", "runs/crf", "-o", "runs/alone", HALF]) == 0
    assert masks("alone") == found["some"]
    capsys.readouterr()
    assert main(["export", "runs/alone", "-o", "alone.pt2"]) == 0  # compared in the other classes
    assert "not in the graph, but noted in its metadata: crf" in capsys.readouterr().err


def test_a_choice_that_was_taken_away_is_made_again(run, phantom_root, capsys):
    """`submit` makes it; what only predicts says who does."""
    Path("runs/crf/thresholds.json").unlink()
    assert main(["train-all", *run]) == 0
    path, record = Path("runs/crf/thresholds.json"), read_thresholds("crf")
    picture = str(next((phantom_root / "test").rglob("*.png")))
    path.write_text(json.dumps({key: value for key, value in record.items() if not key.startswith("crf")}))
    for words in (
        ["predict", picture, "-o", "out", *run],
        ["ensemble", "runs/crf", "-o", "runs/other"],
        ["ensemble", "runs/crf", "-o", "runs/other", "--no-test"],
    ):
        assert main(words) == 1
        message = capsys.readouterr().err
        assert "runs/crf: is not finished (thresholds.json is missing or not as it was written)" in message
        assert "run `bonepipe train-all` with the run's settings first" in message
        assert not Path("runs/other/thresholds.json").exists()
    assert main(["submit", *run]) == 0
    assert read_thresholds("crf") == record


def test_a_fold_without_both_variants_is_predicted_again(run, phantom_root, capsys):
    before = (Path("runs/crf/fold-1/oof.csv").read_bytes(), read_thresholds("crf"))
    Path("runs/crf/fold-1/plain/oof_dice.csv").unlink()
    picture = str(next((phantom_root / "test").rglob("*.png")))
    assert main(["predict", picture, "-o", "out", *run]) == 1
    message = capsys.readouterr().err
    assert "fold-1: is not predicted out of fold, or was in another way" in message and "plain/oof_dice.csv" in message
    weights = Path("runs/crf/fold-1/weights.safetensors").stat().st_mtime_ns
    set_refined(run, [])  # which predicting a fold must not heed
    assert main(["train", "fold=1", *run]) == 0
    assert Path("runs/crf/fold-1/oof.csv").read_bytes() == Path("runs/crf/fold-1/crf/oof.csv").read_bytes()
    assert main(["train-all", *run]) == 0
    assert (Path("runs/crf/fold-1/oof.csv").read_bytes(), read_thresholds("crf")) == before
    assert Path("runs/crf/fold-1/weights.safetensors").stat().st_mtime_ns == weights


def test_an_ensemble_judges_post_processing_as_train_all_does(run, capsys):
    word = "postprocess.operations=[fill_holes,largest]"
    assert main(["train-all", *run, word]) == 0
    assert "post-processing of masks: kept for" in capsys.readouterr().out
    assert main(["ensemble", "runs/crf", "-o", "runs/repaired", "--no-test", word]) == 0
    assert "and post-processing" in capsys.readouterr().out
    assert read_thresholds("repaired")["postprocess"] == read_thresholds("crf")["postprocess"]
    one, other = (json.loads(Path(f"runs/{name}/scores.json").read_text()) for name in ("crf", "repaired"))
    for key in ("oof_dice", "postprocess_gain"):
        assert one[key] == pytest.approx(other[key], abs=1e-12)
    chosen = read_thresholds("crf")
    moved = sum(chosen["cross_fitted_gain"][name] for name in chosen["kept"]) / len(chosen["thresholds"])
    assert one["oof_dice"] == pytest.approx(one["oof_dice_at_half"] + moved + one["postprocess_gain"])
