import json
import shutil

import pytest

from bonepipe.training.tracking.identity import ID, Source, identify

TRAINING = {"settings": {"seed": 7}, "files": {"a.png": "d1"}}


@pytest.fixture
def run(tmp_path):
    """A function: identify the fold of an experiment, and leave a part as W&B would."""

    def begin(experiment="a", inputs=None, *, offline=True, given=None, second=[0]):  # noqa: B006 - counts all calls
        folder = tmp_path / experiment
        (folder / "fold-0").mkdir(parents=True, exist_ok=True)
        source = Source.of(folder / "fold-0" / ID, inputs or TRAINING)
        identity, replaced = identify(folder / "wandb", "fold-0", source, offline=offline, given=given)
        second[0] += 1
        part = folder / "wandb" / f"{'offline-' if offline else ''}run-2026_{second[0]:04d}-{identity}"
        part.mkdir()
        return identity, replaced, part

    return begin


def test_a_fold_goes_on_in_its_run_and_tells_its_unsent_part_again(run):
    first, replaced, part = run()
    assert replaced == []
    assert run()[:2] == (first, [part])


def test_what_is_deleted_and_trained_anew_is_another_run(run, tmp_path):
    first, _, _ = run()
    shutil.rmtree(tmp_path / "a" / "fold-0")
    second, replaced, _ = run()
    assert second != first
    assert replaced == []  # the part tells of another training


def test_a_fold_with_another_fingerprint_is_another_run(run):
    first, _, _ = run()
    second, replaced, _ = run(inputs={**TRAINING, "settings": {"seed": 8}})
    assert (second != first, replaced) == (True, [])
    assert run(inputs={**TRAINING, "settings": {"seed": 8}})[0] == second


def test_a_copy_of_a_run_is_another_run_and_the_original_goes_on(run, tmp_path):
    first, _, part = run()
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    second, replaced, _ = run("b")
    assert second != first
    assert replaced == [tmp_path / "b" / "wandb" / part.name]  # told whole under the new id
    assert run("a")[0] == first
    assert run("b")[0] == second


def test_a_run_that_was_moved_is_the_same(run, tmp_path):
    first, _, _ = run()
    (tmp_path / "a").rename(tmp_path / "c")
    assert run("c")[0] == first
    assert run("c")[0] == first
    assert run("a")[0] != first


def test_what_the_server_knows_goes_on_online_and_not_offline(run):
    first, _, part = run()
    (part / "run-x.wandb.synced").touch()  # as `wandb sync` leaves it
    assert run(offline=False)[:2] == (first, [])
    assert run()[0] != first


def test_a_trial_has_the_id_that_its_agent_gave(run):
    own, _, part = run()
    assert run(given="abc123de")[:2] == ("abc123de", [part])
    assert own != "abc123de"
    assert run()[0] == "abc123de"  # resumed without the agent


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"id": "a/b", "path": "", "made_from": ""}', b"\xff"])
def test_a_damaged_file_begins_a_new_run(run, tmp_path, capfd, content):
    first, _, _ = run()
    path = tmp_path / "a" / "fold-0" / ID
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert run()[0] != first
    told = capfd.readouterr().err
    assert told.startswith(f"tracking: {path}: ") and told.endswith("; a new run begins\n") and told.count("\n") == 1
    assert json.loads(path.read_text())["id"]


def test_a_noted_path_that_no_file_can_have_stops_nobody(run, tmp_path):
    first, _, _ = run()
    path = tmp_path / "a" / "fold-0" / ID
    path.write_text(json.dumps({**json.loads(path.read_text()), "path": "x\0y"}))
    assert run()[0] == first
