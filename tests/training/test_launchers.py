"""A fold under the environment of those who start several processes, in a process of its own."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SRUN = {
    "SLURM_JOB_ID": "1234", "SLURM_JOB_NAME": "folds", "SLURM_PROCID": "1", "SLURM_NTASKS": "2", "SLURM_LOCALID": "1",
    "SLURM_NODEID": "0", "SLURM_NNODES": "1", "SLURM_NODELIST": "node1",
}  # fmt: skip
TORCHRUN = {
    "RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2", "GROUP_RANK": "0", "LOCAL_WORLD_SIZE": "2",
    "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500", "TORCHELASTIC_RUN_ID": "none",
}  # fmt: skip


@pytest.mark.parametrize("launcher", [SRUN, TORCHRUN], ids=["srun", "torchrun"])
def test_a_fold_trains_alone_whoever_launched_it(tmp_path, phantom_root, wandb_records, launcher):
    settings = ["data.size=64", "folds.count=2", f"folds.file={tmp_path / 'folds.csv'}", "trainer.train_batches=1"]
    words = ["experiment=debug", "tracking=wandb", "tracking.mode=offline", f"data.root={phantom_root}", "device=cpu"]
    command = [sys.executable, "-m", "bonepipe", "train", "fold=1", f"runs={tmp_path / 'runs'}", *words, *settings]
    variables = {**os.environ, **launcher, "PYTHONPATH": str(Path.cwd()), "HOME": str(tmp_path)}
    done = subprocess.run(
        command, env=variables, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    fold = tmp_path / "runs" / "debug" / "fold-1"
    with (fold / "metrics.csv").open() as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == ["0", "1"]
    assert (fold / "weights.safetensors").is_file()
    identity = json.loads((fold / "wandb.json").read_text())["id"]
    (part,) = fold.parent.glob(f"wandb/offline-run-*-{identity}")
    rows = [record.history for record in wandb_records(part) if record.HasField("history")]
    keys = [{item.key or "/".join(item.nested_key) for item in row.item} for row in rows]
    assert sum("val/dice" in row for row in keys) == 2
