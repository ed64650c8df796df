"""A training on a terminal: whole lines above one bar that counts from 1."""

import os
import pty
import subprocess
import sys
import termios

import pytest
from warm import warm_children

from bonepipe.training.progress import time_left

PROGRAM = """
import sys, warnings
warnings.filterwarnings("ignore")
import pytorch_lightning as pl
import torch
from pathlib import Path
from bonepipe.training.callbacks import History
from bonepipe.training.fit import TrainerSpec, make_trainer
from bonepipe.training.progress import Progress

class Line(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(2, 1)
    def training_step(self, batch):
        loss = self.layer(batch).square().mean()
        self.log("train/loss", loss)
        return loss
    def validation_step(self, batch):
        self.log("val/dice", self.layer(batch).mean())
    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)

loader = torch.utils.data.DataLoader(torch.ones(6, 2), batch_size=2)
progress = Progress("fold 2/5 (fold=1)", 3)
history = History(Path("metrics.csv"), progress)
trainer = make_trainer(TrainerSpec(epochs=3, batch_size=2), [progress, history], "cpu", Path("."))
trainer.fit(Line(), loader, loader)
trainer.validate(trainer.lightning_module, loader, verbose=False)
print("done", file=sys.stderr)
"""


def test_time_left_of_a_fold_and_of_the_run():
    assert time_left(10, 0, 100, 100, 4) == ""
    assert time_left(seconds=50, steps=10, remaining=50) == "fold 04:10 left"
    assert time_left(50, 10, 50, fold_steps=100, folds_after=2) == "fold 04:10 left, run 20:50 left"
    assert time_left(36000, 10, 10) == "fold 10:00:00 left"


@pytest.fixture
def on_a_terminal(tmp_path, monkeypatch):
    """All that a program writes to a terminal of 160 columns."""
    warm_children(monkeypatch)
    leader, follower = pty.openpty()
    termios.tcsetwinsize(follower, (24, 160))
    process = subprocess.Popen([sys.executable, "-c", PROGRAM], stderr=follower, stdout=follower, cwd=tmp_path)
    os.close(follower)
    written = b""
    try:
        while chunk := os.read(leader, 4096):
            written += chunk
    except OSError:  # so Linux tells that the other side is closed
        pass
    os.close(leader)
    assert process.wait() == 0, written.decode()
    return written.decode()


def shown(written):
    """The lines that stand on the screen in the end."""
    lines, column = [[]], 0
    for letter in written.replace("\x1b[A", ""):
        if letter == "\n":
            lines.append([])
        column = 0 if letter in "\r\n" else column
        if letter not in "\r\n":
            lines[-1][column : column + 1] = [letter]
            column += 1
    return [text for line in lines if (text := "".join(line).rstrip())]


def test_a_bar_stands_below_whole_lines_and_counts_from_1(on_a_terminal):
    *lines, last = shown(on_a_terminal)
    assert last == "done"
    assert [line[:30] for line in lines] == [f"fold 2/5 (fold=1)  epoch {n}/3  " for n in (1, 2, 3)]
    for line in lines:
        assert "loss" in line and "dice" in line and line.endswith("left") and "run 00:0" in line and "|" not in line
    frames = [frame for frame in on_a_terminal.split("\r") if "|" in frame]
    assert any("epoch 1/3" in frame for frame in frames) and any("| 9/9" in frame for frame in frames)
    assert not any("epoch 0" in frame.lower() for frame in frames)
    assert any("the weight average is validated" in frame for frame in frames)


def test_a_log_file_gets_the_lines_and_no_bar(tmp_path, monkeypatch):
    warm_children(monkeypatch)
    done = subprocess.run([sys.executable, "-c", PROGRAM], cwd=tmp_path, capture_output=True, text=True, check=True)
    lines = done.stderr.splitlines()
    assert len(lines) == 4 and "\r" not in done.stderr
    assert "  fold 00:0" in lines[0] and "run 00:0" in lines[0]
