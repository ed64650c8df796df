"""Every bad input of the corpus: a few lines that name it and the way out, the right exit code, and nothing lost."""

import os
import shutil

import pytest
from corpus import annotations, images, runs, settings, tables
from corpus.places import Place

from bonepipe import config as configs
from bonepipe.cli import main
from bonepipe.errors import BonepipeError
from bonepipe.pipeline.experiment import Experiment

LONGEST = 6  # lines of a message
WORDS = [
    "data=chest", "~experiment", "data.root=data", "data.size=32", "runs=results", "folds.file=folds.csv",
    "tracking=none", "model=unet", "model.width=4", "trainer.workers=0", "device=cpu",
]  # fmt: skip
PLAIN = ("score", "vote", "check", "convert", "ablation", "phantom", "completion", "trian")  # without settings
OF_DATA = [*images.CASES, *annotations.CASES, *tables.CASES, *settings.CASES]


@pytest.fixture(scope="module")
def chest(chest_root, tmp_path_factory):
    """Chests, a fold file, the results of an earlier fold, and a submission with its truth."""
    path = tmp_path_factory.mktemp("corpus") / "place"
    shutil.copytree(chest_root, path / "data")
    truth = (path / "data" / "answer.csv").read_text().splitlines()
    for name, rows in (("truth", truth), ("sub", [row.rpartition(",")[0] for row in truth])):
        (path / f"{name}.csv").write_text("\n".join(rows) + "\n")
    shutil.copy(path / "sub.csv", path / "other.csv")
    earlier = path / "results" / "default" / "fold-3"
    earlier.mkdir(parents=True)
    for name in ("weights.safetensors", "oof.csv"):
        (earlier / name).write_text(f"finished {name}")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(path)
        assert main(["split", *WORDS]) == 0
    return Place(path)


@pytest.fixture(scope="module")
def finished(drawn_run, tmp_path_factory):
    """A finished run of the phantom, and an image to predict."""
    folder, words = drawn_run
    path = tmp_path_factory.mktemp("corpus") / "run"
    shutil.copytree(folder, path, copy_function=copy_or_link)
    data = Experiment(configs.compose(words, uses=("data",))).data
    shutil.copy(sorted((data.path / "test" / "DCM").rglob("*.png"))[0], path / "a.png")
    return Place(path, copy_or_link)


def copy_or_link(source, target):
    """Weights are large, and whoever breaks one puts another in its place."""
    (os.link if str(source).endswith((".safetensors", ".npy", ".npz")) else shutil.copy2)(source, target)


def refused(case, words, capsys):
    """Give a command; what it says, in as few lines as it may."""
    code = main(words)
    printed = capsys.readouterr()
    assert "Traceback" not in printed.err + printed.out
    assert code == case.code, printed.err + printed.out
    if case.printed:
        assert f"bonepipe {words[0]}: " not in printed.err
        return printed.out
    assert printed.out == ""
    start = printed.err.rindex(f"bonepipe {words[0]}: ")
    assert printed.err.count("\nbonepipe ") + printed.err.startswith("bonepipe ") == 1
    assert printed.err[start:].count("\n") <= LONGEST
    return printed.err[start:]


def answered(case, words, capsys):
    """What a command or a function says of a bad input."""
    if isinstance(case.ask, str):
        return refused(case, words, capsys)
    with pytest.raises(BonepipeError) as raised:
        case.ask()
    return str(raised.value)


def assert_named(place, case, words, monkeypatch, capsys):
    monkeypatch.chdir(place.path)
    monkeypatch.delenv("BONEPIPE_TRACEBACK", raising=False)
    case.spoil()
    before = place.state()
    capsys.readouterr()
    try:
        said = answered(case, words, capsys)
        after = place.state()
        assert {name: after.get(name) for name in before} == before, "what was there is lost"
        assert len(said) < 10_000 or case.printed
        for part in case.said:
            assert part in said
    finally:
        place.mend()


@pytest.mark.parametrize("case", OF_DATA, ids=lambda case: case.title[:60])
def test_bad_data_and_settings(chest, monkeypatch, capsys, case):
    words = case.ask.split() if isinstance(case.ask, str) else []
    own = [] if not words or words[0] in PLAIN else WORDS
    assert_named(chest, case, [*words[:1], *own, *words[1:]], monkeypatch, capsys)


@pytest.mark.parametrize("case", runs.CASES, ids=lambda case: case.title[:60])
def test_bad_results(finished, monkeypatch, capsys, case):
    words = case.ask.split() if isinstance(case.ask, str) else []
    assert_named(finished, case, words, monkeypatch, capsys)


def test_whole_places_are_accepted(chest, finished, monkeypatch, capsys):
    """Or every case would pass for another reason than its own."""
    monkeypatch.chdir(chest.path)
    for words in (["doctor", *WORDS], ["split", *WORDS], tables.SCORE.split(), tables.CHECK.split()):
        assert main(words) == 0
    monkeypatch.chdir(finished.path)
    assert main(runs.PREDICT.split()) == 0
    assert main(runs.COMPARE.split()) == 0
    capsys.readouterr()
    chest.mend()
    finished.mend()


def test_the_corpus_is_large_and_no_case_is_there_twice():
    asked = [(case.title, case.ask, case.said) for case in [*OF_DATA, *runs.CASES]]
    assert len(asked) >= 250
    assert len(set(map(str, asked))) == len(asked)
