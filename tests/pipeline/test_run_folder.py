"""Fingerprints, locks, and what a folder holds."""

import json
import multiprocessing
import platform
from importlib import metadata

import pytest

from bonepipe import config as configs
from bonepipe.errors import BonepipeError, UsageError
from bonepipe.pipeline import run_folder
from bonepipe.pipeline.run_folder import Step, locked


@pytest.fixture
def make(tmp_path):
    """Make a step of a folder with one output."""

    def step(**inputs):
        return Step(tmp_path / "run", "train", inputs, ("out.csv",), tmp_path / "cache")

    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "out.csv").write_text("1")
    return step


def test_a_step_is_current_until_something_changes(make, tmp_path):
    step = make(settings={"a": 1}, files={"x.png": "d1"})
    assert not step.current
    assert step.changes() == [] and step.recorded is None
    step.record()
    assert step.current
    assert not make(settings={"a": 2}, files={"x.png": "d1"}).current
    (tmp_path / "run" / "out.csv").write_text("2")
    assert step.damage() == ["out.csv"] and not step.current
    (tmp_path / "run" / "out.csv").unlink()
    assert step.damage() == ["out.csv"]


def test_what_changed_is_named_settings_first(make):
    make(settings={"loss": {"alpha": 1}}, files={"a.png": "1", "b.png": "1", "c.json": "1"}, folds={"a": 0}).record()
    now = make(settings={"loss": {"alpha": 2}}, files={"a.png": "2", "c.json": "1", "d.png": "1"}, folds={"a": 1})
    assert now.changes() == [
        "loss.alpha: 1 -> 2", "a.png has changed", "b.png is gone", "d.png is new", "a has changed",
    ]  # fmt: skip


def test_inputs_that_are_left_out_are_not_asked_for(make):
    make(settings={"a": 1}, files={"x": "1"}, dataset={"y": "1"}).record()
    assert make(settings={"a": 1}, files={"x": "1"}).current
    assert not make(settings={"a": 1}, files={"x": "1"}, dataset={}).current


def test_steps_of_one_folder_do_not_meet(make, tmp_path):
    first = make(settings={"a": 1})
    other = Step(tmp_path / "run", "submit", {"settings": {}}, (), tmp_path / "cache")
    first.record()
    other.record()
    assert first.current and other.current
    assert set(run_folder.read_fingerprint(tmp_path / "run")) == {"train", "submit"}


def test_values_survive_json(make):
    make(settings={"folds": (1, 2)}, weights={"Radius": 0.5}).record()
    assert make(settings={"folds": (1, 2)}, weights={"Radius": 0.5}).current


def test_other_versions_are_kept_and_told(make, tmp_path):
    make(settings={}).record()
    entry = run_folder.read_fingerprint(tmp_path / "run")["train"]["versions"]
    assert entry["torch"] == metadata.version("torch") and entry["bonepipe"] == metadata.version("bonepipe")
    assert entry["python"] == platform.python_version()
    folders = [tmp_path / "runs" / f"fold-{fold}" for fold in range(3)]
    for folder in folders:
        folder.mkdir(parents=True)
        Step(folder, "training", {"settings": {}}, (), tmp_path / "cache").record()
    assert run_folder.mixed_versions(folders) is None
    path = folders[1] / "fingerprint.json"
    path.write_text(path.read_text().replace(f'"timm": "{entry["timm"]}"', '"timm": "0.1"'))
    assert run_folder.mixed_versions(folders) == (
        f"warning: {tmp_path / 'runs'}: trained with other versions, so results may differ:\n"
        f"  timm: {entry['timm']} (fold-0, fold-2, now), 0.1 (fold-1)"
    )
    unknown = folders[2] / "fingerprint.json"  # of a time when nobody noted them
    unknown.write_text('{"training": {"inputs": {}, "outputs": {}}}')
    assert run_folder.mixed_versions(folders[2:]) is None


@pytest.mark.parametrize("content", ["{", "[]", '{"train": {}}', '{"train": 3}'])
def test_a_damaged_fingerprint_is_named(make, tmp_path, content):
    (tmp_path / "run" / "fingerprint.json").write_text(content)
    with pytest.raises(BonepipeError, match=r"fingerprint\.json: cannot be read"):
        make(settings={}).changes()


def hold(folder, entered, leave):
    with locked(folder):
        entered.set()
        leave.wait(60)


def test_two_processes_do_not_work_in_one_folder(tmp_path):
    context = multiprocessing.get_context("spawn")
    entered, leave = context.Event(), context.Event()
    other = context.Process(target=hold, args=(tmp_path, entered, leave))
    other.start()
    assert entered.wait(60)
    with pytest.raises(BonepipeError, match=rf"process {other.pid} on .* works here"), locked(tmp_path):
        pass
    other.kill()  # nobody cleans up behind it
    other.join()
    with locked(tmp_path):
        assert (tmp_path / ".lock").exists()


def test_the_kind_of_a_folder(tmp_path):
    (tmp_path / "demo" / "fold-0").mkdir(parents=True)
    (tmp_path / "demo" / "fold-0" / "config.yaml").write_text("{}")
    assert run_folder.kind_of(tmp_path / "demo") == "run"
    for file, kind in (("ensemble.yaml", "ensemble"), ("cascade.json", "cascade")):
        (tmp_path / kind).mkdir()
        (tmp_path / kind / file).write_text("")
        assert run_folder.kind_of(tmp_path / kind) == kind
    with pytest.raises(BonepipeError, match=r"dem: no such folder; did you mean 'demo'\?"):
        run_folder.kind_of(tmp_path / "dem")
    with pytest.raises(BonepipeError, match="no run here"):
        run_folder.kind_of(tmp_path / "demo" / "fold-0")


def test_a_folder_that_holds_something_else_is_not_written_over(tmp_path):
    (tmp_path / "run" / "fold-0").mkdir(parents=True)
    (tmp_path / "best").mkdir()
    (tmp_path / "best" / "ensemble.yaml").write_text("")
    for folder, file in (("run", "ensemble.yaml"), ("best", "cascade.json")):
        with pytest.raises(UsageError, match=f"--output .*{folder}: holds a run or"):
            run_folder.refuse_taken(tmp_path / folder, file)
    with pytest.raises(UsageError, match="holds a run or"):  # a folder of runs
        run_folder.refuse_taken(tmp_path, "ensemble.yaml")
    for name in (".hidden", "..", "x" * 201, "a\nb"):  # such a folder could be written, but never be opened again
        with pytest.raises(UsageError, match="one folder below runs="):
            run_folder.refuse_taken(tmp_path / name, "ensemble.yaml")
    run_folder.refuse_taken(tmp_path / "best", "ensemble.yaml")
    run_folder.refuse_taken(tmp_path / "new", "cascade.json")


def test_only_results_are_deleted(tmp_path):
    assert run_folder.delete(tmp_path / "nothing") is False
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "me.png").write_text("x")
    with pytest.raises(BonepipeError, match="holds no results"):
        run_folder.delete(tmp_path / "photos")
    assert (tmp_path / "photos" / "me.png").exists()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "scores.json").write_text(json.dumps({}))
    assert run_folder.delete(tmp_path / "run") is True
    assert not (tmp_path / "run").exists()


def test_a_link_in_a_folder_from_somebody_else_is_not_written_through(tmp_path):
    (tmp_path / "mine.txt").write_text("precious")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".lock.owner").symlink_to(tmp_path / "mine.txt")
    with locked(tmp_path / "run"):
        assert not (tmp_path / "run" / ".lock.owner").is_symlink()
    assert (tmp_path / "mine.txt").read_text() == "precious"


def test_what_of_the_data_is_sent_is_no_matter_of_a_folder(tmp_path):
    """Whoever predicts with it says so anew: the folder may come from somebody else, with his project to send to."""
    config = configs.compose(["experiment=demo", "tracking=wandb", "tracking.upload=all", "tracking.project=theirs"])
    configs.save(config, tmp_path / "config.yaml")
    loaded = run_folder.load_config(tmp_path / "config.yaml")
    assert loaded["tracking"] == {**config["tracking"], "upload": "auto"}
    assert configs.recompose(loaded, ["tracking.upload=all"])["tracking"]["upload"] == "all"
    configs.save(configs.compose(["experiment=debug"]), tmp_path / "config.yaml")
    assert "upload" not in run_folder.load_config(tmp_path / "config.yaml")["tracking"]
