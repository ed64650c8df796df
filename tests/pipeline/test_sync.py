import json
import subprocess
import sys

import pytest

from bonepipe.cli import main
from bonepipe.pipeline.run_folder import locked
from bonepipe.training.tracking import Tracking

HISTORY = [{"epoch": float(epoch), "step": 5.0 * (epoch + 1), "val/dice": epoch / 8} for epoch in range(4)]


@pytest.fixture
def quick(wandb_server, monkeypatch):
    """The stand-in server, and a client that gives up soon."""
    for name in ("GRAPHQL", "FILE_STREAM", "FILE_TRANSFER"):
        monkeypatch.setenv(f"WANDB__{name}_RETRY_MAX", "1")
        monkeypatch.setenv(f"WANDB__{name}_RETRY_WAIT_MIN_SECONDS", "0.1")
        monkeypatch.setenv(f"WANDB__{name}_RETRY_WAIT_MAX_SECONDS", "0.1")
    return wandb_server


def track(folder, name, rows, mode="offline", files=()):
    """A run that tells epochs and an artifact; its parts are the folders that it adds."""
    with Tracking(mode=mode, upload="all").start("demo", "fold", name, {"seed": 7}, folder) as run:
        run.epochs(rows)
        run.summarise({"oof_dice": 0.875})
        run.artifact(f"demo-{name}", "fold", list(files))


def rows_offline(records):
    """Rows of the history in an offline file."""
    items = [record.history.item for record in records if record.HasField("history")]
    return [{(i.key or "/".join(i.nested_key)): json.loads(i.value_json) for i in row} for row in items]


def told(rows):
    """Without W&B's own measurements of time."""
    return [{key: value for key, value in row.items() if key not in ("_runtime", "_timestamp")} for row in rows]


def test_offline_runs_arrive_whole_in_order_and_once(tmp_path, quick, wandb_records, capsys):
    folder = tmp_path / "runs" / "demo"
    weights = tmp_path / "weights.bin"
    weights.write_bytes(b"w" * 1000)
    track(folder, "fold-0", HISTORY[:2])
    track(folder, "fold-0", HISTORY, files=[weights])  # resumed
    track(folder, "fold-1", HISTORY[:1])
    offline = {
        next(part.glob("*.wandb")).stem[4:]: told(rows_offline(wandb_records(part)))
        for part in (folder / "wandb").glob("offline-*")
    }
    assert main(["sync", str(folder)]) == 0
    printed = capsys.readouterr().out
    assert sorted(quick.runs) == sorted(offline)
    assert len(quick.runs) == 2
    for name, run in quick.runs.items():
        assert told(run.history) == offline[name]
        assert [row["_step"] for row in run.history] == list(range(len(run.history)))
        assert f"{quick.url}/team/bonepipe/runs/{name}\n" in printed
        assert run.summary["oof_dice"] == 0.875
        assert run.config == {"seed": 7}
        assert run.exit_code == 0
    assert quick.stored["/artifact/demo-fold-0/weights.bin"] == weights.read_bytes()
    assert not [path for path in (tmp_path / "home").rglob("*") if "wandb" in str(path) and path.is_file()]
    assert not any((folder / "wandb" / name).exists() for name in ("data", "cache", "logs"))
    quick.requests.clear()
    assert main(["sync", str(tmp_path / "runs")]) == 0
    assert "demo: 2 uploaded before" in capsys.readouterr().out
    assert "UpsertBucket" not in quick.requests


@pytest.mark.parametrize("request_", ["UpsertBucket", "file_stream", "upload"])
def test_what_could_not_be_uploaded_is_uploaded_by_the_next_call(tmp_path, quick, capsys, request_):
    weights = tmp_path / "weights.bin"
    weights.write_bytes(b"w" * 1000)
    track(tmp_path / "demo", "fold-0", HISTORY, files=[weights])
    quick.refuses = {request_}
    assert main(["sync", str(tmp_path / "demo")]) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert "not uploaded (" in error
    assert error.endswith("1 left, run the same command again to go on")
    quick.refuses = set()
    assert main(["sync", str(tmp_path / "demo")]) == 0
    (run,) = quick.runs.values()
    assert [row["_step"] for row in run.history] == [0, 1, 2, 3]
    assert [row["val/dice"] for row in run.history] == [row["val/dice"] for row in HISTORY]
    assert quick.stored["/artifact/demo-fold-0/weights.bin"] == weights.read_bytes()


def test_a_run_that_went_on_after_half_an_upload_arrives_once(tmp_path, quick, wandb_records):
    folder, weights = tmp_path / "demo", tmp_path / "weights.bin"
    weights.write_bytes(b"w" * 1000)
    track(folder, "fold-0", HISTORY[:2])
    quick.refuses = {"CreateRunFiles"}
    assert main(["sync", str(folder)]) == 1
    assert len(*[run.history for run in quick.runs.values()]) == 2
    track(folder, "fold-0", HISTORY, files=[weights])
    quick.refuses = set()
    assert main(["sync", str(folder)]) == 0
    (part,) = (folder / "wandb").glob("offline-run-*")
    (run,) = quick.runs.values()
    assert told(run.history) == told(rows_offline(wandb_records(part)))
    assert [row["_step"] for row in run.history] == sorted(run.lines["wandb-history.jsonl"]) == [0, 1, 2, 3]
    assert (run.summary["oof_dice"], run.config, run.exit_code) == (0.875, {"seed": 7}, 0)
    assert run.summary["val/dice"] == {"max": 0.375, "last": 0.375}
    assert not list(part.glob("rest-*"))


def test_an_interrupted_online_run_goes_on_in_the_same_run(tmp_path, quick):
    track(tmp_path / "demo", "fold-0", HISTORY[:2], mode="online")
    track(tmp_path / "demo", "fold-0", HISTORY, mode="online")
    (run,) = quick.runs.values()
    assert [row["_step"] for row in run.history] == [0, 1, 2, 3]
    assert [row["val/dice"] for row in run.history] == [row["val/dice"] for row in HISTORY]
    assert run.exit_code == 0


def test_an_artifact_is_uploaded_as_it_was_and_takes_no_space_twice(tmp_path, quick):
    weights = tmp_path / "demo" / "weights.bin"
    weights.parent.mkdir()
    weights.write_bytes(b"w" * 1000)
    track(tmp_path / "demo", "fold-0", HISTORY, files=[weights])
    assert weights.stat().st_nlink == 2
    (tmp_path / "new").write_bytes(b"n")
    (tmp_path / "new").replace(weights)  # as the pipeline writes
    assert main(["sync", str(tmp_path / "demo")]) == 0
    assert quick.stored["/artifact/demo-fold-0/weights.bin"] == b"w" * 1000


def test_without_a_key_or_a_tracked_run_it_says_what_to_do(tmp_path, quick, monkeypatch, capsys):
    monkeypatch.delenv("WANDB_API_KEY")
    track(tmp_path / "demo", "fold-0", HISTORY[:1])
    assert main(["sync", str(tmp_path / "demo")]) == 1
    assert "`wandb login` or the variable WANDB_API_KEY" in capsys.readouterr().err
    (tmp_path / "plain").mkdir()
    assert main(["sync", str(tmp_path / "plain")]) == 1
    assert "nothing was tracked here" in capsys.readouterr().err


def test_a_fold_at_work_is_not_uploaded(tmp_path, quick, capsys):
    track(tmp_path / "demo", "fold-0", HISTORY[:1])
    from bonepipe.pipeline.run_folder import locked

    with locked(tmp_path / "demo" / "fold-0"):
        assert main(["sync", str(tmp_path / "demo")]) == 1
    assert "works here" in capsys.readouterr().err
    assert quick.runs == {}


def test_help_is_quick_to_import():
    code = "import sys; from bonepipe.cli import main; main(['sync', '--help']); print('wandb' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "False"


def test_what_cannot_be_uploaded_does_not_keep_the_others(tmp_path, quick, capsys):
    """A fold that works, and one that was killed before it told anything."""
    for name in "abc":
        track(tmp_path / "runs" / name, "fold-0", HISTORY[:1])
    track(tmp_path / "runs" / "a", "fold-1", HISTORY[:1])
    (log,) = (tmp_path / "runs" / "a" / "wandb").glob("offline-*fold-1*/run-*.wandb")
    log.write_bytes(log.read_bytes()[:7])
    with locked(tmp_path / "runs" / "b"):
        assert main(["sync", str(tmp_path / "runs")]) == 1
    out, err = capsys.readouterr()
    assert "b: process" in err
    assert "was stopped before it told anything" in out + err
    assert len(quick.runs) == 2
    assert main(["sync", str(tmp_path / "runs")]) == 0
    assert len(quick.runs) == 3
    assert "a: 2 uploaded before" in capsys.readouterr().out


def test_a_run_whose_folder_has_moved_arrives_whole(tmp_path, quick):
    weights = tmp_path / "weights.bin"
    weights.write_bytes(b"w" * 1000)
    with Tracking(mode="offline", upload="all").start("demo", "fold", "fold-0", {}, tmp_path / "node" / "demo") as run:
        run.epochs(HISTORY)
        run.artifact("demo-fold-0", "fold", [weights])
        run.table("dice", ["class", "dice"], [["Ulna", 0.9]])
    (tmp_path / "node").rename(tmp_path / "home of runs")
    assert main(["sync", str(tmp_path / "home of runs" / "demo")]) == 0
    (arrived,) = quick.runs.values()
    assert sum("val/dice" in row for row in arrived.history) == len(HISTORY)
    assert quick.stored["/artifact/demo-fold-0/weights.bin"] == weights.read_bytes()
    assert not list((tmp_path / "home of runs").rglob("rest-*"))
