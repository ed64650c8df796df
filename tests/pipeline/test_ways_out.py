"""Damaged and lost files of finished runs: whoever does what the messages say ends with a good submission."""

import re
import shlex
import shutil
from pathlib import Path

import pytest
from in_process import folds_here

from bonepipe import config as configs
from bonepipe.cli import main
from bonepipe.data.phantom.dataset import write_dataset
from bonepipe.pipeline.experiment import Experiment

WORDS = [
    "experiment=debug", "data.root=data", "folds.count=2", "folds.file=folds.csv", "device=cpu", "trainer.epochs=1",
    "averaging=none", "tta=none", "model=unet", "model.width=4",
]  # fmt: skip
MOST = 4  # messages that a person is patient with
ENSEMBLE = ["ensemble", "runs/debug", "-o", "runs/pair"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory, draw_weights):
    """A folder with a dataset, a run of two folds whose weights are drawn, its submission, and an ensemble of it."""
    folder = tmp_path_factory.mktemp("finished")
    write_dataset(folder / "data", 4, 2, 128, seed=0, workers=0)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        draw_weights(Experiment(configs.compose(WORDS)))
        for words in (["train", "fold=0"], ["train", "fold=1"], ["train-all"], ["submit"]):
            assert main([*words, *WORDS]) == 0
        assert main(ENSEMBLE) == 0
    return folder


@pytest.fixture
def place(finished, tmp_path, monkeypatch):
    """A copy of it to damage."""
    shutil.copytree(finished, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    folds_here(monkeypatch)


def empty(path):
    path.write_bytes(b"")


def cut(path):
    """The first half of the lines, as of an interrupted copy."""
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[: max(1, len(lines) // 2)]))


def obey(message):
    """Do what a message says: to the file or folder that it begins with, then the commands."""
    path = Path(message.split(": ")[1])
    if aside := re.search(r"move (\S+) away", message):
        path = path if aside[1] == "it" else Path(aside[1])
        path.rename(path.with_name(f"{path.name}.old"))
    elif "delete this file" in message:
        path.unlink()
    elif "delete the fold's folder" in message:
        shutil.rmtree(path if path.is_dir() else path.parent)
    for command in re.findall(r"`bonepipe ([^`]+)`", message):
        words = shlex.split(command)
        main([*words, *(WORDS if words[0] in ("train", "train-all") else [])])


def said(capsys):
    """The last message of a command, with the lines that belong to it."""
    text = capsys.readouterr().err
    *_, last = re.finditer(r"^bonepipe [a-z-]+: ", text, re.MULTILINE)
    return text[last.start() :]


def settle(words, capsys):
    """Give a command, and do what it says until it succeeds."""
    told = []
    while main(words):
        told.append(said(capsys))
        assert len(told) < MOST, "\n".join(["a circle:", *told])
        obey(told[-1])
    capsys.readouterr()
    return told


DAMAGES = [
    ("fold-0/weights.safetensors", empty), ("fold-0/weights.safetensors", Path.unlink),
    ("fold-0/histograms.npz", empty), ("fold-0/probabilities.npz", Path.unlink), ("fold-1/oof.csv", cut),
    ("fold-0/oof_dice.csv", cut), ("fold-0/metrics.csv", Path.unlink), ("fold-0/config.yaml", empty),
    ("fold-1/config.yaml", cut), ("fold-1/config.yaml", Path.unlink), ("fold-0/fingerprint.json", cut),
    ("fold-0/fingerprint.json", Path.unlink), ("fold-1", shutil.rmtree), ("thresholds.json", empty),
    ("scores.json", empty), ("scores.json", Path.unlink), ("config.yaml", empty), ("config.yaml", Path.unlink),
    ("fingerprint.json", cut), ("submission.csv", cut),
]  # fmt: skip


@pytest.mark.parametrize(("name", "damage"), DAMAGES)
def test_the_advice_of_each_message_ends_with_a_good_submission(place, capsys, name, damage):
    damage(Path("runs/debug", name))
    for words in (["compare", "runs/debug", "runs/debug"], ["submit", "--run", "runs/debug"], ["submit", *WORDS]):
        settle(words, capsys)
    if name.endswith("config.yaml"):  # which an ensemble reads from each fold
        settle(ENSEMBLE, capsys)
    assert main(["check", "runs/debug/submission.csv", "--data", "data"]) == 0
    assert main(["train-all", *WORDS]) == 0
    assert "done already" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("config.yaml", empty), ("config.yaml", Path.unlink), ("ensemble.yaml", Path.unlink), ("scores.json", empty),
        ("thresholds.json", cut), ("fingerprint.json", cut), ("histograms.npz", empty),
    ],
)  # fmt: skip
def test_an_ensemble_is_made_whole_by_its_own_command(place, capsys, name, damage):
    damage(Path("runs/pair", name))
    settle(ENSEMBLE, capsys)
    assert settle(["submit", "--run", "runs/pair"], capsys) == []
    assert main(["check", "runs/pair/submission.csv", "--data", "data"]) == 0


def test_a_damaged_list_of_members_is_named_with_the_command_that_writes_it(place, capsys):
    empty(Path("runs/pair/ensemble.yaml"))
    assert main(["submit", "--run", "runs/pair"]) == 1
    assert "runs/pair/ensemble.yaml" in (message := said(capsys)) and "-o runs/pair` again" in message
    assert main(ENSEMBLE) == 0
    assert main(["submit", "--run", "runs/pair"]) == 0


def test_maps_that_an_ensemble_made_anew_and_that_were_cut_are_made_once_more(place, capsys):
    Path("members.yaml").write_text("members: [{run: runs/debug, overrides: [windows.size=80]}]")
    words = ["ensemble", "members.yaml", "-o"]
    assert main([*words, "runs/first"]) == 0
    (made, *_) = sorted(Path("runs/debug").glob("fold-*/probabilities-*.npz"))
    whole = made.read_bytes()
    made.write_bytes(whole[: len(whole) // 2])
    assert main([*words, "runs/second"]) == 0
    assert made.stat().st_size == len(whole)
    pair = [Path("runs", name, "submission.csv").read_bytes() for name in ("first", "second")]
    assert pair[0] == pair[1]


@pytest.mark.parametrize(
    "loss",
    [shutil.rmtree, lambda fold: (fold / "config.yaml").unlink(), lambda fold: fold.rename("runs/debug/fold-1.old")],
)
def test_an_ensemble_leaves_out_no_fold_of_a_run(place, capsys, loss):
    loss(Path("runs/debug/fold-1"))
    assert main(["ensemble", "runs/debug", "-o", "runs/half"]) == 1
    assert "runs/debug: fold 1 is not finished (finished: 0); `bonepipe train fold=1 name=debug`" in said(capsys)
    assert not Path("runs/half").exists()
    Path("half.yaml").write_text("members: [{run: runs/debug, folds: [0]}]")
    assert main(["ensemble", "half.yaml", "-o", "runs/half"]) == 0


def test_a_comparison_says_which_fold_it_leaves_out(place, capsys):
    Path("runs/debug/fold-1/oof_dice.csv").unlink()
    assert main(["compare", "runs/debug", "runs/debug"]) == 0
    assert "warning: runs/debug: fold-1 lacks config.yaml or oof_dice.csv" in capsys.readouterr().err


def test_a_table_that_was_cut_between_two_images_is_no_result(place, capsys):
    path = Path("runs/debug/fold-0/oof_dice.csv")
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[: 1 + 29]))  # one whole image
    assert main(["compare", "runs/debug", "runs/debug"]) == 1
    assert "fold-0/oof_dice.csv: is not the file that was written" in said(capsys)


def rows_of(path):
    return path.read_text().splitlines(keepends=True)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda path: path.write_text("".join(rows_of(path)[:-1])), 0),  # a row is missing: scored without it
        (empty, 1), (lambda path: path.write_text("image_name,class,rle\nx.png,Ulna,\n"), 1),
        (lambda path: (path.unlink(), path.mkdir()), 1), (lambda path: (path.unlink(), path.symlink_to("nowhere")), 1),
    ],
)  # fmt: skip
def test_whatever_the_answer_is_the_submission_stays_and_is_not_blamed(place, capsys, change, code):
    submission = Path("runs/debug/submission.csv")
    before = submission.read_bytes(), submission.stat().st_mtime_ns
    change(Path("data/answer.csv"))
    assert main(["submit", *WORDS]) == code
    message = capsys.readouterr().err
    assert "data/answer.csv: " in message and "submission.csv: no row" not in message
    assert (submission.read_bytes(), submission.stat().st_mtime_ns) == before


@pytest.mark.parametrize("command", ["train-all", "submit"])
def test_a_run_whose_dataset_has_lost_an_image_keeps_all_its_results(place, capsys, command):
    image = sorted(Path("data/train/DCM").rglob("*.png"))[0]
    image.unlink()
    annotation = Path(str(image).replace("DCM", "outputs_json")).with_suffix(".json")
    annotation.unlink()
    before = {path: path.read_bytes() for path in Path("runs/debug").rglob("*.*") if path.is_file()}
    for words in ([], ["thresholds.margin=5"]):
        assert main([command, *WORDS, *words]) == 1
        assert image.name in said(capsys)
    assert {path: path.read_bytes() for path in before} == before
