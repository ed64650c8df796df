"""What processes that were killed left half-written goes; what somebody still writes stays."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bonepipe import leftovers
from bonepipe.files import appearing, replacing, write_json
from bonepipe.pipeline.run_folder import locked

KILLED = """
import os, signal, sys
from pathlib import Path
from bonepipe import files
with getattr(files, sys.argv[1])(Path(sys.argv[2])) as part:
    (part / "half" if part.is_dir() else part).write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture(autouse=True)
def as_a_new_process():
    """Every command looks into a folder once."""
    leftovers.sweep_once.cache_clear()


def leave(path, how="replacing"):
    """What a process leaves that is killed while it writes a file or fills a folder."""
    before = set(path.parent.iterdir())
    assert subprocess.run([sys.executable, "-c", KILLED, how, str(path)], check=False).returncode == -9
    (part,) = set(path.parent.iterdir()) - before
    return part


def written_ago(path, seconds):
    os.utime(path, (time.time() - seconds,) * 2)
    return path


@pytest.mark.parametrize(("name", "how"), [("last.ckpt", "replacing"), ("a.b.csv", "replacing"), ("data", "appearing")])
def test_the_next_command_that_writes_there_removes_what_a_killed_one_left(tmp_path, name, how):
    part = leave(tmp_path / name, how)
    assert part.name.startswith(".") and part.name.endswith(Path(name).suffix)
    write_json(tmp_path / "scores.json", {})
    assert [path.name for path in tmp_path.iterdir()] == ["scores.json"]


def test_who_locks_a_folder_sweeps_it_before_it_works(tmp_path):
    """The disk may be full of them."""
    part = leave(tmp_path / "last.ckpt")
    with locked(tmp_path):
        assert not part.exists()


def test_what_is_being_written_stays(tmp_path):
    with replacing(tmp_path / "submission.csv") as part:
        part.write_text("half")
        assert leftovers.sweep(tmp_path) == []
        written_ago(part, 3600)
        assert leftovers.sweep(tmp_path) == [] and part.exists()
    with appearing(tmp_path / "data") as part:
        assert leftovers.sweep(tmp_path) == [] and part.is_dir()


def test_a_part_of_another_host_stays_for_a_day(tmp_path, monkeypatch):
    """Nobody here can tell whether a process of that host lives."""
    part = leave(tmp_path / "last.ckpt")
    monkeypatch.setattr(leftovers, "_place", lambda: "0" * 8)
    assert leftovers.sweep(tmp_path) == []
    written_ago(part, leftovers.ABANDONED - 60)
    assert leftovers.sweep(tmp_path) == []
    written_ago(part, leftovers.ABANDONED + 60)
    assert leftovers.sweep(tmp_path) == [part] and not part.exists()


def test_files_of_people_are_not_touched(tmp_path):
    names = [".backup.2024.csv", ".last.12345.ckpt", "a.0123abcd-1.csv", ".0123abcd-99", ".lock", ".git"]
    for name in names:
        (tmp_path / name).touch()
        written_ago(tmp_path / name, 10**7)
    assert leftovers.sweep(tmp_path) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names)


def test_a_link_is_removed_and_not_what_it_leads_to(tmp_path):
    part, kept = leave(tmp_path / "data", "appearing"), tmp_path / "kept"
    (part / "half").rename(kept)
    part.rmdir()
    part.symlink_to(tmp_path)
    assert leftovers.sweep(tmp_path) == [part] and kept.read_text() == "half"


def test_a_folder_that_cannot_be_listed_is_left(tmp_path):
    assert leftovers.sweep(tmp_path / "nowhere") == []
    (tmp_path / "file").touch()
    assert leftovers.sweep(tmp_path / "file") == []
