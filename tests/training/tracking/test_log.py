import contextlib
import resource
import time

from offline_run import read_records

from bonepipe.cli import main
from bonepipe.training.tracking import Tracking, log

EPOCHS = [{"epoch": float(epoch), "step": 5.0 * epoch, "val/dice": epoch / 100} for epoch in range(100)]
LIMIT = 10_000  # bytes of a file; a log has 4,000 before its first row


@contextlib.contextmanager
def files_up_to(size):
    """The system refuses to let a file grow further, as where a disk is full; processes started here keep the limit."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def start(folder, room=resource.RLIM_INFINITY):
    """An offline run whose log cannot grow beyond some bytes."""
    with files_up_to(room):
        return Tracking(mode="offline").start("demo", "fold", "fold-0", {}, folder)


def lines_of(capfd):
    """What is said, but for the line with which a run begins."""
    first, *rest = capfd.readouterr().err.splitlines()
    assert "is tracked offline in" in first
    return rest


def epochs_in(folder):
    """The epochs that are written down."""
    (part,) = (folder / "wandb").glob("offline-run-*-fold-0-*")
    records = read_records(part)
    rows = [record.history.item for record in records if record.HasField("history")]
    return [int(item.value_json) for row in rows for item in row if "epoch" in (item.key, *item.nested_key)]


def test_a_disk_that_fills_costs_a_line_and_what_was_told_before_can_be_uploaded(
    tmp_path, wandb_server, monkeypatch, capfd
):
    monkeypatch.setattr(log, "PATIENCE", 1.5)
    run = start(tmp_path, LIMIT)
    for done in (60, 80, 100):
        run.epochs(EPOCHS[:done])
        time.sleep(1.6 * (done < 100))
    assert not run.active
    run.table("classes", ["class"], [["Ulna"]])
    run.finish()
    (line,) = lines_of(capfd)
    assert line == (
        f"tracking: goes on untracked: no room in {tmp_path / 'wandb'} (the disk was full for a while); "
        "free some for later runs; a fold's metrics.csv and steps.csv keep its numbers"
    )
    told = epochs_in(tmp_path)
    assert told == [*range(1, len(told) + 1)]
    assert 10 < len(told) < 60
    assert main(["sync", str(tmp_path)]) == 0
    (uploaded,) = wandb_server.runs.values()
    assert [row["epoch"] for row in uploaded.history] == told


def test_a_disk_that_fills_at_the_end_costs_a_line_with_the_systems_word_for_it(tmp_path, no_login, capfd):
    run = start(tmp_path, LIMIT)
    run.epochs(EPOCHS)
    with files_up_to(LIMIT):
        run.finish()
    (line,) = lines_of(capfd)
    assert line.startswith(f"tracking: goes on untracked: no room in {tmp_path / 'wandb'} (File too large); free some ")
    assert 10 < len(epochs_in(tmp_path)) < 60


def test_a_file_that_finds_no_room_costs_a_line(tmp_path, no_login, capfd):
    with start(tmp_path) as run, files_up_to(LIMIT):
        for name in ("a", "b"):
            run.table(name, ["class"], [["x" * LIMIT]])
        assert not run.active
    (line,) = lines_of(capfd)
    assert line.startswith(f"tracking: goes on untracked: no room in {tmp_path / 'wandb'} (File too large); free some ")


def test_with_room_nothing_is_said(tmp_path, no_login, monkeypatch, capfd):
    monkeypatch.setattr(log, "PATIENCE", 2.0)
    with start(tmp_path) as run:
        run.epochs(EPOCHS[:1])
        for done in (2, 3):
            time.sleep(2.1)
            run.epochs(EPOCHS[:1])  # nothing new
            run.epochs(EPOCHS[:done])
    assert lines_of(capfd) == []
    assert epochs_in(tmp_path) == [1, 2, 3]
