"""The GPU's benchmark runs, on a CPU and tiny images; its figures mean nothing there."""

import re

import pandas as pd
import pytest
import torch
from torch import nn

from . import gpu


@pytest.fixture
def bench(tmp_path):
    return gpu.Bench(gpu.QUICK, "cpu", tmp_path)


def test_every_row_is_measured_and_written(tmp_path, capsys):
    document = tmp_path / "benchmarks.md"
    document.write_text("# By hand\n")
    assert gpu.main(["--quick", "--device", "cpu", "--document", str(document)]) == 0
    written, shown = document.read_text(), capsys.readouterr().out
    rows = [line.split("|")[1:-1] for line in written.splitlines() if line.startswith("| ")][1:]
    assert written.startswith("# By hand\n") and "failed" not in written + shown
    for start, count in {
        "phantom": 1, "step of 2 at 64, 32": 2, "transfer": 1, "peak memory": 2, "epoch of 8 images": 1,
        "comparison of an image at 128": 1,
        "step in a real epoch": 1, "4 epochs": 1, "out of fold": 3, "submit of 4 images at 64, 2 folds x 2 views": 1,
    }.items():  # fmt: skip
        assert sum(row[0].strip().startswith(start) for row in rows) == count, start
    assert all(f"torch {torch.__version__}, " in row[4] and " cores" in row[4] for row in rows)
    assert all(row[1].strip() in shown for row in rows)
    assert re.search(r"\d+ rows in \d+\.\d s\.", shown)


def test_a_fault_costs_its_own_row_only(bench, capsys):
    def broken(bench):
        yield gpu.Row("before", "1 ms")
        raise RuntimeError("out of\nmemory")

    kept = []
    sections = {"broken": broken, "after": lambda bench: iter([gpu.Row("after", "2 ms")])}
    rows, whole = gpu.measure(bench, sections, lambda rows: kept.append(len(rows)))
    assert [row.step for row in rows] == ["before", "broken", "after"] and not whole
    assert rows[1].measured == "failed: 'out of memory'" and kept == [2, 3]
    assert "RuntimeError" in capsys.readouterr().err


def test_only_the_outermost_forward_passes_count():
    model = nn.Sequential(nn.Conv2d(1, 1, 1), nn.Sequential(nn.ReLU()))
    with gpu.Passes("cpu").watched() as passes:
        for _ in range(3):
            model(torch.zeros(1, 1, 2, 2))
    model(torch.zeros(1, 1, 2, 2))
    assert len(passes.spans) == 3 and passes.seconds > 0


def test_epochs_are_told_apart_by_their_validation(bench):
    times = {"time/data_wait_ms": 1.0, "time/forward_backward_ms": 8.0, "time/rest_ms": 1.0}
    table = pd.DataFrame(
        [
            {"seconds": 9.0, "val/dice": None, **times},
            {"seconds": 3.0, "val/dice": 0.25, **times},
            {"seconds": 2.0, "val/dice": None, **times},
        ]
    )
    epoch, step, whole = gpu.epoch_rows(bench, table, 20.0, (320, 80))
    assert epoch.measured == "2.00 s / 3.00 s = 1.50, first 9.00 s"
    assert step.measured == "1.0 ms (10%) / 8.0 ms / 1.0 ms"
    assert whole.measured == "20.0 s, of which epochs 14.0 s, Dice 0.250"


def test_targets_are_for_a_gpu(bench):
    row = gpu.Row("step", "1 ms")
    assert bench.judge(row, "at most 2 ms", True) == row
    judged = gpu.Bench(gpu.FULL, "cuda", bench.folder).judge(row, "at most 2 ms", False)
    assert judged.cells[2:4] == ("at most 2 ms", "**no**")
