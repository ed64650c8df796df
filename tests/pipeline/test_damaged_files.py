"""Every JSON file of a run's folder, broken in every way: named with its field and a way out, and never a traceback."""

import json
import random
import shutil
from itertools import product
from pathlib import Path

import pytest

from bonepipe import config as configs
from bonepipe.cli import main
from bonepipe.errors import BonepipeError
from bonepipe.pipeline import batch_size, comparison, decisions, fold_costs, leaderboard, run_folder, tracked
from bonepipe.pipeline.experiment import Experiment
from bonepipe.pipeline.predictors.base import require_current
from bonepipe.pipeline.predictors.run import Run, require_folds
from bonepipe.pipeline.steps import Steps
from bonepipe.training.tracking.identity import Source, identify

SCORES = {
    "oof_dice": 0.9, "oof_dice_at_half": 0.8, "folds": [0.7, 0.9], "folds_chosen": [0.8, 1.0], "public": 0.5,
    "oof_dice_per_class": {"Ulna": 0.9}, "test_dice": 0.4, "test_dice_per_class": {"Ulna": 0.4},
    "leaderboard": {"public": 0.9, "date": "2026-11-27"}, "strata": {"wrist": {"dice": None, "images": 3}},
}  # fmt: skip
CASCADE = {"first": "runs/a", "second": "runs/b", "classes": {"Ulna": {"weight": 0.5}}, "box": {}}
COSTS = {"device": "cpu", "peak_memory": None, "seconds_an_image": 0.25}
IDENTITY = {"id": "fold-0-0123abcd", "path": "runs/x/fold-0/wandb.json", "made_from": "0123"}


def ask_fold(experiment):
    steps, folder = Steps(experiment), experiment.fold_folder(0)
    for step in (steps.training(0), steps.out_of_fold(0)):
        _ = step.changes(), step.damage(), step.current
    steps.refuse_stale(0)
    run_folder.recorded_folds(folder)
    run_folder.mixed_versions([folder])
    require_folds(experiment)


def ask_run(experiment):
    steps = Steps(experiment)
    _ = steps.cross_validation().changes(), steps.cross_validated
    require_current(Run(experiment), "run it")


def ask_scores(experiment):
    scores = run_folder.scores_of(experiment.folder)
    leaderboard.read_entry(experiment.folder)
    comparison.read_totals(experiment.folder / "scores.json")
    tracked.flat(scores)
    _ = list(scores.get("test_dice_per_class", {}).items())


def ask_cascade(experiment):
    run_folder.read_cascade(experiment.folder)
    comparison._makeup(experiment.folder)


ASK = {
    "fold-0/fingerprint.json": ask_fold,
    "fingerprint.json": ask_run,
    "thresholds.json": lambda experiment: decisions.read(experiment.folder, experiment.data.classes).plain(),
    "scores.json": ask_scores,
    "cascade.json": ask_cascade,
}
# Nothing depends on these: they are told, and made anew.
FORGET = {
    "fold-0/costs.json": lambda experiment: fold_costs.of_fold(experiment.fold_folder(0)),
    "batch_size.json": lambda experiment: batch_size._known(experiment.folder / "batch_size.json", {"settings": "x"}),
    "fold-0/wandb.json": lambda experiment: identify(
        experiment.folder / "wandb", "fold-0", Source(experiment.fold_folder(0) / "wandb.json", "0123"), offline=True
    ),
}


@pytest.fixture(scope="module")
def place(drawn_run, tmp_path_factory):
    """The experiment of a finished run, all of its JSON files there."""
    folder, words = drawn_run
    copy = shutil.copytree(folder, tmp_path_factory.mktemp("damaged") / "copy")
    experiment = Experiment(configs.compose([*words, f"runs={copy / 'runs'}", f"folds.file={copy / 'folds.csv'}"]))
    added = {"scores.json": SCORES, "cascade.json": CASCADE, "fold-0/costs.json": COSTS, "fold-0/wandb.json": IDENTITY}
    for name, content in {**added, "batch_size.json": {"batch_size": 4, "settings": "x", "device": "cpu"}}.items():
        (experiment.folder / name).write_text(json.dumps(content))
    return experiment


@pytest.fixture
def broken(place):
    """Put a content in place of a file until the test is over."""
    kept = {}

    def put(name, content):
        path = place.folder / name
        kept.setdefault(path, path.read_bytes())
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    yield put
    for path, content in kept.items():
        path.write_bytes(content)


def nodes(content, way=(), most=3):
    """The ways to the parts of a content: to the first few of each dictionary or list."""
    yield way
    parts = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for key, part in list(parts)[:most]:
        yield from nodes(part, (*way, key), most)


def replaced(content, way, value):
    if not way:
        return value
    content = content.copy()
    content[way[0]] = replaced(content[way[0]], way[1:], value)
    return content


CONTENTS = ["", "{", "null", "[1]", "5", '"x"', "NaN", "[" * 100_000, b"\xff", b"\0" * 20, '{"training": 1}']


def test_the_files_as_they_were_written_are_read(place, capsys):
    for name, ask in {**ASK, **FORGET}.items():
        ask(place)
        assert json.loads((place.folder / name).read_bytes())
    assert capsys.readouterr().err == ""


def test_no_file_is_forgotten(place):
    there = {path.relative_to(place.folder).as_posix() for path in place.folder.rglob("*.json")}
    assert there - {"fold-1/fingerprint.json"} == {*ASK, *FORGET}


@pytest.mark.parametrize("name", ASK)
def test_a_broken_file_is_named_with_the_way_out(place, broken, name):
    for content in CONTENTS if name != "scores.json" else CONTENTS[:-1]:  # of scores, any number may be missing
        path = broken(name, content)
        with pytest.raises(BonepipeError, match=rf"^{path}: .+; .+") as raised:
            ASK[name](place)
        assert len(str(raised.value)) < 600


@pytest.mark.parametrize("name", FORGET)
def test_a_broken_file_that_nothing_depends_on_is_told(place, broken, capsys, name):
    for content in CONTENTS[:-1]:
        path = broken(name, content)
        FORGET[name](place)
        told = capsys.readouterr().err
        assert f"{path}: " in told and told.count("\n") == 1


@pytest.mark.parametrize("name", [*ASK, *FORGET])
def test_no_field_of_any_type_ends_in_a_traceback(place, broken, name):
    """It is refused by name, or is a field that nobody reads, or another value that may be."""
    content, ask, refused = json.loads((place.folder / name).read_bytes()), {**ASK, **FORGET}[name], 0
    cases = list(product(nodes(content), (None, -5, "x", [1], {"a": "x"})))
    for way, value in random.Random(0).sample(cases, min(len(cases), 80)):
        broken(name, json.dumps(replaced(content, way, value)))
        try:
            ask(place)
        except BonepipeError as error:
            assert str(place.folder) in str(error)
            refused += 1
    assert name in FORGET or refused > 5


@pytest.mark.parametrize("name", ["fold-0/fingerprint.json", "thresholds.json", "fingerprint.json"])
@pytest.mark.parametrize("content", ["[1]", "[" * 100_000])
def test_commands_end_with_exit_code_1_and_one_line(place, broken, capsys, name, content):
    path, image = broken(name, content), next(Path(place.data.root).rglob("test/**/*.png"))
    (place.folder / "cascade.json").unlink(missing_ok=True)  # or it is no run
    assert main(["predict", str(image), "--run", str(place.folder), "-o", str(place.folder.parent / "out")]) == 1
    told = capsys.readouterr().err.strip()
    by_digest = f"{place.folder}: is not finished (thresholds.json is missing or not as it was written); run"
    told_first = by_digest if name == "thresholds.json" else f"{path}: cannot be read ("
    assert told.startswith(f"bonepipe predict: {told_first}") and told.count("\n") == 0
