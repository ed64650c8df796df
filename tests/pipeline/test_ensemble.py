"""Finished runs as one: from their folders to thresholds, scores and a submission. Nothing is trained here."""

import csv
import io
import json
import re
import shutil
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from bonepipe import config as configs
from bonepipe.cli import main
from bonepipe.data import submission
from bonepipe.data.catalog import test_images as images_to_predict
from bonepipe.data.image import read_grey, resize_grey
from bonepipe.errors import UsageError
from bonepipe.inference.ensemble.members import Ensemble, Entry
from bonepipe.labels import rle, upsample
from bonepipe.pipeline import comparison, run_report
from bonepipe.pipeline.comparison import read_dice
from bonepipe.pipeline.ensemble import read_members
from bonepipe.pipeline.experiment import Experiment
from bonepipe.pipeline.predictors.ensemble import assemble, open_ensemble, open_members
from bonepipe.pipeline.steps import Steps

BY_STRATUM = ["thresholds.by=stratum", "thresholds.margin=0"]


def make_run(draw_weights, name, root, size, seed):
    """A run of two folds whose weights are drawn instead of trained, predicted out of fold; returns its words."""
    words = [
        "experiment=demo", f"name={name}", f"data.root={root}", f"data.size={size}", "folds.count=2", "tta=none",
        "model=unet", "model.width=4", "device=cpu", "tracking=none",
    ]  # fmt: skip
    draw_weights(Experiment(configs.compose(words)), seed, epochs=(7, 8))
    for fold in (0, 1):
        assert main(["train", f"fold={fold}", *words]) == 0
    return words


@pytest.fixture(scope="module")
def runs(tmp_path_factory, phantom_root, draw_weights):
    """A folder with runs a (64 pixels) and b (96 pixels), and the words that made them."""
    folder = tmp_path_factory.mktemp("ensemble")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        sizes = (("a", 64, 0), ("b", 96, 10))
        yield {name: make_run(draw_weights, name, phantom_root, size, seed) for name, size, seed in sizes}


@pytest.fixture(scope="module")
def pair(runs):
    """Both runs as one, with thresholds by stratum; returns what was printed."""
    told = io.StringIO()
    with redirect_stdout(told):
        assert main(["ensemble", "runs/a", "runs/b", "-o", "runs/pair", *BY_STRATUM]) == 0
    return told.getvalue()


def same_bytes(name, *folders):
    return len({Path(folder, name).read_bytes() for folder in folders}) == 1


def maps_of(words, path, folds=(0, 1), epochs=(None,)):
    """What a run's models say of an image file, averaged at their resolution: float32 `[1, C, h, w]`."""
    experiment = Experiment(configs.compose(words))
    image = torch.from_numpy(resize_grey(read_grey(path), experiment.windows.shape))[None]
    return experiment.predictor([experiment.fold_model(fold, epoch) for fold in folds for epoch in epochs], ())(image)


def submitted(folder, image):
    shape = read_grey(image.path).shape
    rows = [row for row in submission.stream(Path(folder) / "submission.csv") if row.image == image.name]
    return np.stack([rle.decode(row.rle, shape) for row in rows]), shape


def test_a_member_alone_is_its_own_submission(runs, capsys):
    assert main(["train-all", *runs["a"]]) == 0
    assert main(["submit", *runs["a"]]) == 0
    assert main(["ensemble", "runs/a", "-o", "runs/alone", "--mean", "geometric"]) == 0
    assert same_bytes("thresholds.json", "runs/a", "runs/alone")
    assert same_bytes("submission.csv", "runs/a", "runs/alone")
    scores = [json.loads(Path(f"runs/{name}/scores.json").read_text()) for name in ("a", "alone")]
    assert scores[0].items() >= {key: value for key, value in scores[1].items() if key != "members"}.items()
    assert {"public", "private", "oof_dice_per_class"} <= scores[1].keys()


def test_two_equal_members_are_one(runs):
    shutil.copytree("runs/a", "runs/twin", ignore=shutil.ignore_patterns("submission.csv", "*.jpg", "*.ckpt"))
    for name, members in (("once", ["runs/a"]), ("same", ["runs/a:2", "runs/a:5"]), ("twins", ["runs/a", "runs/twin"])):
        assert main(["ensemble", *members, "-o", f"runs/{name}", "thresholds.margin=1e9"]) == 0
    assert same_bytes("submission.csv", "runs/once", "runs/same", "runs/twins")
    assert same_bytes("oof_dice.csv", "runs/once", "runs/same")
    alone, twins = (json.loads(Path(f"runs/{name}/scores.json").read_text())["oof_dice"] for name in ("once", "twins"))
    assert twins == pytest.approx(alone, abs=0.002)  # mixtures are made from bytes
    assert Path("runs/same/ensemble.yaml").read_text().count("run:") == 1


def test_members_of_two_sizes_meet_at_the_larger(runs, capsys):
    words = ["runs/a", "runs/b:3", "-o", "runs/sizes", "thresholds.margin=1e9", "prediction.batch_size=3"]
    assert main(["ensemble", *words]) == 0
    table = capsys.readouterr().out
    assert "runs/b" in table and "with its thresholds" in table
    experiment = Experiment(configs.compose(runs["a"]))
    image = images_to_predict(experiment.data)[0]
    small, large = (maps_of(runs[name], image.path) for name in "ab")
    mean = 0.25 * functional.interpolate(small, (96, 96), mode="bilinear", align_corners=False) + 0.75 * large
    masks, shape = submitted("runs/sizes", image)
    expected = np.stack([upsample.upsample(map_, shape) for map_ in mean[0].numpy()])
    sure = np.abs(expected - 0.5) > 1e-5
    np.testing.assert_array_equal(masks[sure], (expected >= 0.5)[sure])
    assert 0.02 < masks.mean() < 0.98
    shapes = {image.name: read_grey(image.path).shape for image in images_to_predict(experiment.data)}
    assert submission.faults(submission.read("runs/sizes/submission.csv"), shapes, experiment.data.classes) == []


def test_the_mixture_is_judged_by_what_nobody_was_trained_on(runs):
    """The Dice in the table against maps predicted here by each run's model that did not see the image."""
    assert main(["ensemble", "runs/a", "runs/b", "-o", "runs/judged", "--no-test"]) == 0
    assert not Path("runs/judged/submission.csv").exists()
    dice = read_dice(Path("runs/judged/oof_dice.csv"))
    experiment = Experiment(configs.compose(runs["a"]))
    index = experiment.cohort.indices(1)[1][0]
    store = experiment.cohort.store
    image, truth, size = experiment.cohort.images[index], store.truth(index), store.shape(index)
    small, large = (maps_of(runs[name], image.path, [1]) for name in "ab")
    mean = (functional.interpolate(small, (96, 96), mode="bilinear", align_corners=False) + large) / 2
    expected = upsample.dice_scores(upsample.cutouts(mean[0].numpy(), [0.5] * 29, size), truth)
    found = [dice[image.name, label] for label in experiment.data.classes]
    np.testing.assert_allclose(found, expected, atol=0.02)  # bytes
    scores = json.loads(Path("runs/judged/scores.json").read_text())
    assert [row["member"] for row in scores["members"]] == ["runs/a", "runs/b"]
    assert np.mean(list(dice.values())) == pytest.approx(scores["oof_dice_at_half"], abs=1e-6)


def test_overrides_and_epochs_predict_anew_once(runs):
    text = "members:\n- {run: runs/a, overrides: [windows.size=80]}\n- {run: runs/b, folds: [1], epochs: [7, 8]}\n"
    Path("best.yaml").write_text(text)
    assert main(["ensemble", "best.yaml", "-o", "runs/best", "thresholds.margin=1e9"]) == 0
    made = sorted(Path("runs").glob("[ab]/fold-*/probabilities-*.npz"))
    assert [path.parent.as_posix() for path in made] == ["runs/a/fold-0", "runs/a/fold-1", "runs/b/fold-1"]
    before = [path.stat().st_mtime_ns for path in made]
    assert main(["ensemble", "runs/best/ensemble.yaml", "-o", "runs/again", "thresholds.margin=1e9"]) == 0
    assert [path.stat().st_mtime_ns for path in made] == before
    assert same_bytes("submission.csv", "runs/best", "runs/again")
    image = images_to_predict(Experiment(configs.compose(runs["a"])).data)[1]
    wide = maps_of([*runs["a"], "windows.size=80"], image.path)
    late = maps_of(runs["b"], image.path, [1], [7, 8])
    mean = (functional.interpolate(wide, (96, 96), mode="bilinear", align_corners=False) + late) / 2
    masks, shape = submitted("runs/best", image)
    expected = np.stack([upsample.upsample(map_, shape) for map_ in mean[0].numpy()])
    sure = np.abs(expected - 0.5) > 1e-5
    np.testing.assert_array_equal(masks[sure], (expected >= 0.5)[sure])


def test_an_ensemble_is_used_like_a_run(runs, pair, phantom_root):
    """predict repeats its submission, pseudo takes its sure pixels, compare sets it beside a run."""
    assert "classes leave the common one" in pair
    folder = Path("runs/pair")
    assert set(json.loads((folder / "thresholds.json").read_text())["by_stratum"]) == {"rotated", "straight"}
    assert all((folder / name).stat().st_size for name in ("examples.jpg", "thresholds.png"))
    assert {"oof_dice_weighted", "threshold_strata_gain"} <= json.loads((folder / "scores.json").read_text()).keys()
    assert main(["predict", str(phantom_root / "test" / "DCM"), "-o", "out", "--run", "runs/pair"]) == 0
    tables = [
        {row.key: row.rle for row in submission.stream(Path(path))}
        for path in ("out/predictions.csv", "runs/pair/submission.csv")
    ]
    assert tables[0] == tables[1]
    assert main(["pseudo", "--raw", "--confidence", "0.6", "--run", "runs/pair"]) == 0
    facts = json.loads((folder / "pseudo.json").read_text())
    assert list(facts["members"]) == ["0 runs/a", "1 runs/b"]
    image = images_to_predict(Experiment(configs.compose(runs["a"])).data)[0]
    small, large = (maps_of(runs[name], image.path) for name in "ab")
    mean = (functional.interpolate(small, (96, 96), mode="bilinear", align_corners=False) + large) / 2
    shape = read_grey(image.path).shape
    frames = np.stack([upsample.upsample(map_, shape) for map_ in mean[0].numpy()])
    with (folder / "pseudo.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["image_name"] == image.name]
    for row, frame in zip(rows, frames, strict=True):
        clear = (np.abs(frame - 0.6) > 1e-5) & (np.abs(frame - 0.4) > 1e-5)
        for column, expected in (("rle", frame >= 0.6), ("ambiguous", (frame >= 0.4) & (frame < 0.6))):
            np.testing.assert_array_equal(rle.decode(row[column], shape)[clear], expected[clear])
    made = comparison.read_run(folder).config["ensemble"]
    assert (made["mean"], list(made["members"])) == ("arithmetic", ["runs/a", "runs/b"])


def test_each_image_gets_the_thresholds_of_its_stratum(runs, pair, phantom_root, capsys):
    shutil.copytree("runs/pair", "runs/strata")
    path, levels = Path("runs/strata/thresholds.json"), {"rotated": 0.4, "straight": 0.6}
    record, experiment = json.loads(path.read_text()), Experiment(configs.compose(runs["a"]))
    for stratum, level in levels.items():
        record["by_stratum"][stratum]["thresholds"] = dict.fromkeys(experiment.data.classes, level)
    path.write_text(json.dumps(record))
    words = ["predict", str(phantom_root / "test/DCM"), "-o", "stratified", "--run", "runs/strata"]
    capsys.readouterr()
    assert main(words) == 1
    assert "thresholds.json is missing or not as it was written" in capsys.readouterr().err
    ensemble = read_members(["runs/a", "runs/b"], None)
    assemble(ensemble, Path("runs/strata"), BY_STRATUM).cross_validation().record()
    assert main(words) == 0
    found = {row.key: row.rle for row in submission.stream(Path("stratified/predictions.csv"))}
    bent = set((phantom_root / "rotated.csv").read_text().split()[1:])
    images = images_to_predict(experiment.data)
    assert 0 < sum(image.patient in bent for image in images) < len(images)
    for image in images:
        level = levels["rotated" if image.patient in bent else "straight"]
        small, large = (maps_of(runs[name], image.path) for name in "ab")
        mean = (functional.interpolate(small, (96, 96), mode="bilinear", align_corners=False) + large) / 2
        for name, map_ in zip(experiment.data.classes, mean[0].numpy(), strict=True):
            frame = upsample.upsample(map_, read_grey(image.path).shape)
            sure = np.abs(frame - level) > 1e-5
            np.testing.assert_array_equal(
                rle.decode(found[image.name, name], frame.shape)[sure], (frame >= level)[sure]
            )


def test_entries_of_one_run_predict_once_and_weigh_class_by_class(runs, capsys):
    """Run a counts in every class and, by a second entry, twice as much again in two of them."""
    classes = Experiment(configs.compose(runs["a"])).data.classes
    heavy = classes[:2]
    members = f"[{{run: runs/a}}, {{run: runs/b}}, {{run: runs/a, weight: 2, classes: [{', '.join(heavy)}]}}]"
    Path("by_class.yaml").write_text(f"mean: geometric\nmembers: {members}")
    assert main(["ensemble", "by_class.yaml", "-o", "runs/by_class"]) == 0
    told = capsys.readouterr().err
    assert [told.count(f"runs/{name}: 2 models x 1 views") for name in "ab"] == [1, 1]
    limits = json.loads(Path("runs/by_class/thresholds.json").read_text())["thresholds"]
    texts = {row.key: row.rle for row in submission.stream("runs/by_class/submission.csv")}
    image = images_to_predict(Experiment(configs.compose(runs["a"])).data)[0]
    small, large = (maps_of(runs[name], image.path) for name in "ab")
    small = functional.interpolate(small, (96, 96), mode="bilinear", align_corners=False)
    edge = 0.5 / 256
    logits = [map_.double().clamp(edge, 1 - edge).logit()[0].numpy() for map_ in (small, large)]
    for number, name in enumerate(classes):
        share = 0.75 if name in heavy else 0.5
        mean = 1 / (1 + np.exp(-(share * logits[0][number] + (1 - share) * logits[1][number])))
        frame = upsample.upsample(mean.astype(np.float32), read_grey(image.path).shape)
        sure = np.abs(frame - limits[name]) > 1e-5
        np.testing.assert_array_equal(
            rle.decode(texts[image.name, name], frame.shape)[sure], (frame >= limits[name])[sure]
        )


def test_all_members_predict_on_the_device_of_the_first(runs):
    shutil.copytree("runs/b", "runs/elsewhere")
    for path in Path("runs/elsewhere").rglob("config.yaml"):
        path.write_text(path.read_text().replace("device: cpu", "device: cuda"))
    entries = [Entry(run="runs/b"), Entry(run="runs/elsewhere")]
    assert open_members(entries[1:])[0].experiment.config["device"] == "cuda"
    assert {member.experiment.config["device"] for member in open_members(entries)} == {"cpu"}


def test_a_report_shows_the_folds_that_it_was_cross_validated_by(runs, pair):
    results = run_report.read(Path("runs/pair"), pictures=False)
    places = Steps(Experiment(configs.compose(runs["a"]))).training_inputs["folds"]
    assert results.folds.tolist() == [places[name] for name in results.names]
    assert results.numbers == [0, 1]


def test_how_networks_predict_reaches_all_members(runs, pair):
    """As the way out of a lack of memory says; and it wins over what an entry says of itself."""
    words = ["prediction.batch_size=1", "prediction.precision=bf16", "device=cpu"]
    exact = Entry(run="runs/b", overrides=("prediction.precision=32",))
    shutil.copytree("runs/pair", "runs/narrow")
    for predictor in (
        assemble(Ensemble(members=(Entry(run="runs/a"), exact)), Path("runs/narrow"), words),
        open_ensemble(Path("runs/narrow"), words),
    ):
        specs = [experiment.prediction for experiment in (predictor.experiment, *predictor.runs())]
        assert [spec.batch_size for spec in specs] == [1, 1, 1]
        assert [spec.precision for spec in specs] == ["bf16", "bf16", "bf16"]
    assert assemble(Ensemble(members=(exact,)), Path("runs/narrow"), ()).runs()[0].prediction.precision == 32
    with pytest.raises(UsageError, match=r"prediction\.folds: belongs to the members: `folds: \[0, 1\]`"):
        assemble(Ensemble(members=(exact,)), Path("runs/narrow"), ["prediction.folds=[0]"])


def test_an_ensemble_whose_members_changed_is_refused(runs, phantom_root, capsys):
    """Members' weights or way to predict, the file that names them, or thresholds that were taken away."""
    picture = str(next((phantom_root / "test").rglob("*.png")))
    predict = ["predict", picture, "-o", "changed", "--run", "runs/moving"]
    shutil.copytree("runs/a", "runs/moves", ignore=shutil.ignore_patterns("submission.csv"))
    assert main(["ensemble", "runs/moves", "runs/b", "-o", "runs/moving", "--no-test"]) == 0
    assert main(predict) == 0
    weights = Path("runs/moves/fold-0/weights.safetensors")
    kept, other = weights.read_bytes(), Path("runs/b/fold-0/weights.safetensors").read_bytes()
    weights.write_bytes(other)
    assert main(predict) == 1
    assert "runs/moves/fold-0/weights.safetensors: is not the file that training wrote" in capsys.readouterr().err
    moves = [*runs["a"], "name=moves"]

    def retrain(content):
        weights.write_bytes(content)
        Steps(Experiment(configs.compose(moves))).training(0).record()
        assert main(["train", "fold=0", *moves]) == 0

    retrain(other)
    assert main(predict) == 1
    told = capsys.readouterr().err
    assert "runs/moving: its thresholds were chosen from other predictions" in told
    assert "0 runs/moves.files.fold-0/weights.safetensors has changed" in told
    assert "Run `bonepipe ensemble runs/moving/ensemble.yaml -o runs/moving`" in told
    retrain(kept)
    assert main(predict) == 0
    path = Path("runs/moving/ensemble.yaml")
    path.write_text(path.read_text().replace("run: runs/b", "run: runs/b, weight: 3"))
    assert main(predict) == 1
    assert "1 runs/b.weight has changed" in capsys.readouterr().err
    path.write_text(path.read_text().replace(", weight: 3", ""))
    Path("runs/moving/fingerprint.json").unlink()  # as an interruption leaves it
    assert main(predict) == 1
    assert "runs/moving: is not finished (fingerprint.json is missing" in capsys.readouterr().err


def test_what_is_cross_validated_is_not_cross_validated_again(runs, pair, capsys):
    words = ["ensemble", "runs/a", "runs/b", "-o", "runs/once_more", *BY_STRATUM]
    shutil.copytree("runs/pair", "runs/once_more")
    files = [path for path in Path("runs/once_more").iterdir() if path.is_file() and path.name != ".lock"]
    before = {path: path.stat().st_mtime_ns for path in files}
    capsys.readouterr()
    assert main(words) == 0
    told = capsys.readouterr()
    assert "runs/once_more: is cross-validated already" in told.err and "submission.csv: done already" in told.err
    assert "test_dice" in told.out and "with its thresholds" not in told.out
    assert {path: path.stat().st_mtime_ns for path in files} == before
    assert main([*words[:1], "runs/a", "runs/b:2", *words[3:]]) == 0
    told = capsys.readouterr()
    assert "is cross-validated again, because of\n  1 runs/b.weight has changed" in told.err
    assert "with its thresholds" in told.out


def test_the_dataset_it_is_judged_by_is_part_of_it(runs, phantom_root, tmp_path, capsys):
    """What strata are told from makes it anew; annotations that no member has seen are refused, as by train-all."""
    root = shutil.copytree(phantom_root, tmp_path / "data")
    words = ["ensemble", "runs/a", "runs/b", "-o", "runs/judged", f"data.root={root}", "--no-test"]
    assert main(words) == 0
    with (root / "rotated.csv").open("a") as file:
        file.write("ID999\n")
    capsys.readouterr()
    assert main(words) == 0
    assert "is cross-validated again, because of\n  rotated.csv has changed" in capsys.readouterr().err
    assert main(words) == 0
    assert "is cross-validated already" in capsys.readouterr().err
    annotation = sorted((root / "train" / "outputs_json").rglob("*.json"))[0]
    annotation.write_text(annotation.read_text().replace("Radius", "Ulna"))
    refused = f"was trained and predicted with other files of {root}:\n  {annotation.relative_to(root)} has changed"
    assert main(words) == 1
    assert f"runs/a/fold-0: {refused}" in capsys.readouterr().err
    for path in shutil.copytree(Path("runs/a"), Path("runs/judged_elsewhere")).rglob("config.yaml"):
        path.write_text(path.read_text().replace(str(phantom_root), str(root)))
    assert main(["select", "runs/b", "runs/judged_elsewhere", "-o", "runs/chosen"]) == 1
    assert f"runs/judged_elsewhere/fold-0: {refused}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("member", "message"),
    [
        ("{run: runs/aa}", r"runs/aa: no such folder; did you mean 'a'\?"),
        ("{run: runs}", r"runs: no run here \(no fold-\*/config.yaml\); name the folder of a run"),
        (
            "{run: runs/a, folds: [1, 4]}",
            r"runs/a: fold 4 is not finished \(finished: 0, 1\); `bonepipe train fold=4 name=a`.*folds: \[0, 1\]",
        ),
        ("{run: runs/a, epochs: [3]}", r"epoch 3 were not kept \(epochs 7, 8 are\); trainer.keep_epochs=N"),
        ("{run: runs/a, overrides: [data.size=96]}", "overrides: 'data.size' cannot be changed in an ensemble"),
        ("{run: runs/a, overrides: [tta=flop]}", "tta has no option 'flop'; did you mean 'flip'"),
        ("{run: runs/a, overrides: [windows.sise=96]}", "did you mean 'windows.size'"),
        (
            "{run: runs/a, overrides: [postprocess.crf.radius=2]}",
            "postprocess.crf: is not the CRF that the run has tried.*run `bonepipe train-all` with it",
        ),
        ("{run: runs/a, overrides: ['postprocess.crf={radius: 2}']}", "is not the CRF that the run has tried"),
        ("{run: runs/team}", "runs/team: is no run but holds a finished ensemble; name the runs that it is made of"),
        ("{run: runs/look}", "runs/look: is no run but holds a finished cascade; name the runs"),
        ("{run: runs/a, classes: [Pisifrom]}", "unknown class 'Pisifrom'; did you mean 'Pisiform'"),
    ],
)
def test_wrong_members_are_named_before_anything_is_predicted(runs, capsys, member, message):
    for folder, file in (("team", "ensemble.yaml"), ("look", "cascade.json")):
        Path("runs", folder).mkdir(exist_ok=True)
        Path("runs", folder, file).write_text("{}")
    Path("wrong.yaml").write_text(f"members: [{{run: runs/b}}, {member}]")
    assert main(["ensemble", "wrong.yaml", "-o", "runs/wrong"]) in (1, 2)
    assert re.search(message, capsys.readouterr().err)
    assert not Path("runs/wrong").exists()


def test_the_folds_of_an_ensemble_are_its_members_affair(runs, capsys):
    assert main(["ensemble", "runs/a", "runs/b", "-o", "runs/ab"]) == 0
    assert main(["submit", "--run", "runs/ab", "prediction.folds=[0]"]) == 2
    assert "prediction.folds: belongs to the members" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["runs/a:x", "-o", "runs/x"], "runs/a:x: the weight after the colon must be a number"),
        (["runs/a:-1", "-o", "runs/x"], "weight=-1.0 of runs/a"),
        (["best.yaml", "runs/a", "-o", "runs/x"], "one YAML file or a list of runs, not both"),
        (["runs/a", "-o", "runs/b"], "name a folder of its own"),
        (["runs/a", "-o", "runs/x", "optimizer.lr=1"], "optimizer.lr: belongs to the runs, which are trained"),
        (["runs/a", "-o", "runs/x", "threshold.margin=1"], "did you mean 'thresholds'?"),
        (["runs/a", "-o", "runs/x", "thresholds.margn=1"], "did you mean 'thresholds.margin'?"),
        (["runs/a", "-o", "runs/x", "thresholds.margin=-1"], "thresholds.margin=-1"),
        (["runs/a", "-o", "runs/looked"], "holds a run or a cascade"),
    ],
)
def test_wrong_command_lines_are_refused(runs, capsys, words, message):
    Path("runs/looked").mkdir(exist_ok=True)
    Path("runs/looked/cascade.json").touch()
    assert main(["ensemble", *words]) == 2
    assert message in capsys.readouterr().err


def test_runs_of_other_classes_are_refused(runs, capsys):
    shutil.copytree("runs/a", "runs/other", ignore=shutil.ignore_patterns("submission.csv"))
    for path in Path("runs/other").glob("fold-*/config.yaml"):
        config = configs.load(path)
        config["data"]["classes"] = config["data"]["classes"][::-1]
        configs.save(config, path)
    assert main(["ensemble", "runs/a", "runs/other", "-o", "runs/x"]) == 1
    assert "runs/other: has other classes than runs/a (another order)" in capsys.readouterr().err
