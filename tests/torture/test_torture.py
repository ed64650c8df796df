"""The short form of `make torture`: of each kind the trials that say most. Two commands, results equal to the byte."""

import os

import pytest

from . import damage, disks, kills, pairs, stops
from .place import COMMANDS, Place, results
from .processes import run
from .table import Journal, faults, render
from .trials import Outcome, Trial


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder in which commands are given."""
    return Place(tmp_path_factory.mktemp("torture"))


def some(trials, count):
    """So many of them, spread over the middle."""
    trials = list(trials)
    return [trials[(number + 1) * len(trials) // (count + 1)] for number in range(count)]


def assert_good(trials, *, struck=True):
    assert trials
    for trial in trials:
        outcome = trial.run()
        assert not outcome.fault, f"{trial.title}: {outcome.fault}"
        assert outcome.struck or not struck, f"{trial.title}: came too late"


def test_commands_that_were_killed_at_operations_on_files_end_alike(place):
    for command, count in (("train", 2), ("submit", 1), ("autoaugment", 1), ("clean", 1)):
        assert_good(some(kills.placed(place, [command], 1000), count))


def test_signals_at_any_moment_are_one_line(place):
    assert_good(some(stops.trials(place, ["submit"], 1, seed=0), 2), struck=False)


@pytest.mark.skipif(not disks.may_mount(), reason="this user may not mount a file system")
def test_a_full_disk_is_named_and_loses_nothing(place):
    assert_good(some(disks.full(place, ["submit"], 3, seed=0), 1))


def test_a_limit_on_the_size_of_files_is_named_and_loses_nothing(place):
    assert_good(some(disks.limited(place, ["train"], 1000), 1))


def test_a_folder_that_can_only_be_read_is_named_and_loses_nothing(place):
    assert_good(some(disks.locked(place, ["submit"]), 1))


def test_files_that_vanish_or_are_damaged_are_never_taken_for_whole(place):
    for pattern in ("debug/fold-0/weights.safetensors", "debug/thresholds.json"):
        assert_good(some(damage.trials(place, pattern), 2))


def test_two_commands_at_once_leave_what_one_leaves(place):
    assert_good(list(pairs.trials(place, 1, ("submit twice",))), struck=False)


def test_a_result_that_differs_or_is_left_half_written_is_a_fault(place):
    command, folder = COMMANDS["vote"], place.copy("finished", "judged")
    assert place.difference(command, folder) == "vote.csv differs or is missing (1 in all)"
    assert run(folder, command.words).code == 0
    assert place.difference(command, folder) == ""
    assert results(command, folder).keys() == {"vote.csv"}
    (folder / f".vote.0123abcd-{os.getpid()}.csv").touch()
    assert "half-written" in place.difference(command, folder)
    (folder / "vote.csv").write_text("other")
    assert "differs" in place.difference(command, folder)


def test_a_traceback_and_another_exit_code_are_faults(place):
    """A command that a hook makes fail."""
    ended = run(place.copy("data", "judged"), COMMANDS["split"].words, fail)
    assert ended.code == 1
    assert "Traceback" in ended.told


def fail():
    raise RuntimeError("on purpose")


def test_the_journal_goes_on_and_the_table_counts(tmp_path):
    trials = [Trial("killed", f"{command}: {number}", Outcome) for command in ("train", "split") for number in (0, 1)]
    journal = Journal(tmp_path / "trials.csv")
    for trial, fault in zip(trials, ("", "a\nb", "", ""), strict=True):
        journal.add(trial, Outcome(struck=trial.title != "split: 1", fault=fault))
    again = Journal(tmp_path / "trials.csv")
    assert all(trial in again for trial in trials)
    assert Trial("killed", "train: 2", Outcome) not in again
    assert list(faults(again.rows)) == ["killed: train: 1: a b"]
    assert render(again.rows).splitlines()[-1].replace(" ", "") == "|all|2|4|3|1|"
