"""Bad input through the command line: one message that names file and field, and nothing that was there is touched."""

import hashlib
import json
import shutil
from pathlib import Path

import pytest

from bonepipe.cli import main

IMAGE, LABELS = "train/DCM/case02/scan004.png", "train/outputs_json/case02/scan004.json"
WORDS = [
    "data=chest",
    "~experiment",
    "data.root=data",
    "data.size=32",
    "runs=results",
    "folds.file=folds.csv",
    "tracking=none",
]
WORDS += ["model=unet_resnet18", "model.encoder_weights=null", "trainer.workers=0", "device=cpu"]


@pytest.fixture
def place(chest_root, tmp_path, monkeypatch):
    """A folder with a copy of the chests, a fold file and the results of an earlier fold."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("BONEPIPE_TRACEBACK", raising=False)
    shutil.copytree(chest_root, "data")
    assert main(["split", *WORDS]) == 0
    earlier = Path("results/default/fold-3")
    earlier.mkdir(parents=True)
    for name in ("weights.safetensors", "oof.csv"):
        (earlier / name).write_text(f"finished {name}")
    return tmp_path


@pytest.fixture
def assert_refused(place, capsys):
    """Run a command that must fail: its exit code, one message with these parts, all files as before."""

    def run(words, code, *parts):
        before = contents(place)
        capsys.readouterr()
        assert main(words) == code
        printed = capsys.readouterr()
        assert printed.out == ""
        messages = [line for line in printed.err.splitlines() if line.startswith("bonepipe ")]
        assert len(messages) == 1
        assert printed.err.endswith(f"{messages[0]}\n")
        assert "Traceback" not in printed.err
        for part in parts:
            assert part in messages[0]
        after = contents(place)
        assert {path: after.get(path) for path in before} == before
        more = [Path(path) for path in after.keys() - before.keys()]
        assert [path for path in more if ".store" not in path.parts] == []

    return run


def contents(folder):
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def train(*overrides):
    return ["train", *WORDS, "fold=0", *overrides]


def every(*overrides):
    """All commands that train, the latter two into a folder of their own."""
    return [train(*overrides), *([name, *WORDS, "name=other", *overrides] for name in ("train-all", "submit"))]


ALL = {
    "split": [],
    "doctor": [],
    "train": [],
    "train-all": [],
    "submit": [],
    "predict": [f"data/{IMAGE}", "-o", "out"],
    "pseudo": [],
    "label-errors": [],
    "clean": [],
}


def test_the_words_themselves_are_accepted(place, capsys):
    assert main(["split", *WORDS]) == 0
    assert capsys.readouterr().out.endswith("fold 4: 1 patients, 2 images\n")


@pytest.mark.parametrize("command", ["predict", "pseudo", "label-errors"])
def test_nothing_is_predicted_with_before_it_is_trained(assert_refused, command):
    words = [command, *ALL[command], *WORDS, "name=other"]
    assert_refused(words, 1, "results/other/fold-0: is not trained yet; run `bonepipe train-all`")


@pytest.mark.parametrize("command", ["predict", "pseudo", "label-errors", "submit"])
def test_a_folder_that_is_no_result(assert_refused, command):
    words = [command, *ALL[command], "--run"]
    assert_refused(
        [*words, "results/defalt"], 1, "results/defalt: no such folder; did you mean 'default'?", "runs/NAME"
    )
    assert_refused([*words, "results/default"], 1, "results/default: no run here", "runs/NAME")
    assert_refused([*words, "results/default", "optimizer.lr=1"], 2, "optimizer.lr is what its results were made with")


@pytest.mark.parametrize(
    ("words", "code", "reason"),
    [
        (["ensemble", "results/defalt"], 1, "results/defalt: no such folder; did you mean 'default'?"),
        (["ensemble", "results/default"], 1, "results/default: no run here"),
        (["ensemble", "results/default", "-o", "results/default"], 2, "--output results/default: holds a run or"),
        (["ensemble", "best.yaml"], 1, "best.yaml: cannot be read as an ensemble"),
        (
            ["cascade", "results/defalt", "results/default"],
            1,
            "results/defalt: no such folder; did you mean 'default'?",
        ),
        (["cascade", "results/default", "results/default"], 1, "results/default: no run here"),
        (
            ["cascade", "results/default", "results/default", "trainer.epochs=1"],
            2,
            "trainer.epochs: belongs to the runs",
        ),
        (["select", "results/default", "results/defalt"], 1, "results/default: no run here"),
    ],
)
def test_wrong_folders_of_several_runs(assert_refused, words, code, reason):
    assert_refused(words if "-o" in words else [*words, "-o", "out"], code, reason)


def test_a_fold_that_nobody_took_notes_of(assert_refused):
    reason = "results/default/fold-3/fingerprint.json: is missing"
    for words in (["train", *WORDS, "fold=3"], ["train-all", *WORDS], ["submit", *WORDS]):
        assert_refused(words, 1, reason, "give the run a name of its own (name=...)")


@pytest.mark.parametrize("command", ["split", "train", "train-all", "submit"])
def test_no_such_data_root(assert_refused, command):
    assert_refused([command, *WORDS, "data.root=nowhere"], 1, "data.root: no folder 'nowhere'", "DATA=")


def test_image_without_annotation(assert_refused):
    Path("data", LABELS).unlink()
    for words in every():
        assert_refused(words, 1, f"data/{IMAGE}: image without annotation, expected data/{LABELS}")


def test_broken_json(assert_refused):
    text = Path("data", LABELS).read_text()
    Path("data", LABELS).write_text(text[: len(text) // 2])
    for words in every():
        assert_refused(words, 1, f"data/{LABELS}: broken JSON")


def test_unknown_label(assert_refused):
    content = json.loads(Path("data", LABELS).read_text())
    content["annotations"][1]["label"] = "Right Long"
    Path("data", LABELS).write_text(json.dumps(content))
    field = f"data/{LABELS}: annotations[1].label"
    for words in every():
        assert_refused(words, 1, f"{field}: unknown class 'Right Long'; did you mean 'Right Lung'")


def test_bad_points(assert_refused):
    content = json.loads(Path("data", LABELS).read_text())
    content["annotations"][3]["points"] = [[1, 2], [3]]
    Path("data", LABELS).write_text(json.dumps(content))
    for words in every():
        assert_refused(words, 1, f"data/{LABELS}: annotations[3].points: expected a list of [x, y] pairs")


def test_truncated_image(assert_refused):
    data = Path("data", IMAGE).read_bytes()
    Path("data", IMAGE).write_bytes(data[: len(data) // 2])
    for words in every():
        assert_refused(words, 1, f"data/{IMAGE}: truncated PNG")


def rewrite_folds(change):
    lines = Path("folds.csv").read_text().splitlines()
    Path("folds.csv").write_text("\n".join(change(lines)) + "\n")


def test_split_file_that_leaks(assert_refused):
    def move_one(lines):
        name, patient, fold = lines[5].split(",")
        return [*lines[:5], f"{name},{patient},{(int(fold) + 1) % 5}", *lines[6:]]

    rewrite_folds(move_one)
    for words in (["split", *WORDS], *every()):
        assert_refused(words, 1, "folds.csv: column fold: patient case02 leaks across folds")


def test_split_file_that_misses_an_image(assert_refused):
    rewrite_folds(lambda lines: [*lines[:5], *lines[6:]])
    for words in (["split", *WORDS], *every()):
        assert_refused(words, 1, "folds.csv: column image_name: scan004.png is missing (1 images in all)")


@pytest.mark.parametrize("command", ALL)
def test_misspelt_override(assert_refused, command):
    words = [command, *ALL[command], *WORDS, "trainer.epoch=3"]
    assert_refused(words, 2, "'trainer.epoch=3'", "did you mean 'trainer.epochs'?")


@pytest.mark.parametrize("command", [name for name in ALL if name != "clean"])
def test_ill_typed_override(assert_refused, command):
    words = [command, *ALL[command], *WORDS, "trainer.epochs=many"]
    assert_refused(words, 2, "trainer.epochs='many': input should be a valid integer")


def test_value_that_makes_no_sense(assert_refused):
    for words in (["split", *WORDS, "folds.count=1"], *every("folds.count=1")):
        assert_refused(words, 2, "folds: folds.count=1: at least 2")
    assert_refused(train("fold=5"), 2, "fold=5: there are folds 0 to 4")
    assert_refused(train("loss=dice_topk", "loss.k=0"), 2, "loss.k=0: input should be greater than 0")
    assert_refused(train("mixing=cutmix", "mixing.p=2"), 2, "mixing.p=2: input should be less than or equal to 1")
    for command in ("train-all", "submit"):
        assert_refused(
            [command, *WORDS, "name=other", "thresholds.margin=-1"],
            2,
            "thresholds.margin=-1: input should be greater than or equal to 0",
        )
    assert_refused(train("loss.boundary={sigmaa:5}"), 2, "loss.boundary", "unexpected keyword argument")


def test_damaged_metadata(assert_refused):
    Path("data/meta.xlsx").write_text("no spreadsheet")
    for words in every("data.metadata=meta.xlsx"):
        assert_refused(words, 1, "data/meta.xlsx: cannot be read as a spreadsheet")
