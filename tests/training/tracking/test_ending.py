import time

import pytest
from wandb_server import WandbServer

from bonepipe.cli import main
from bonepipe.training.tracking import Tracking, ending

EPOCHS = [{"epoch": float(epoch), "step": 5.0 * epoch, "val/dice": epoch / 8} for epoch in range(4)]


@pytest.fixture
def back(wandb_server, monkeypatch):
    """A function: W&B's server is there again, and knows what it was told before."""

    def begin():
        server = WandbServer()
        server.runs = wandb_server.runs
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        begun.append(server)
        return server

    begun = []
    yield begin
    for server in begun:
        server.close()


@pytest.mark.parametrize("resumed", [False, True])
def test_an_end_without_a_server_costs_a_line_and_seconds_and_what_is_left_is_uploaded_later(
    tmp_path, wandb_server, back, monkeypatch, capfd, resumed
):
    monkeypatch.setattr(ending, "SILENCE", 2.0)
    monkeypatch.setenv("WANDB__GRAPHQL_RETRY_MAX", "1")
    if resumed:
        with Tracking().start("demo", "fold", "fold-0", {}, tmp_path) as run:
            run.epochs(EPOCHS[:2])
    run = Tracking().start("demo", "fold", "fold-0", {}, tmp_path)
    wandb_server.close()
    run.epochs(EPOCHS)
    begun = time.monotonic()
    run.finish()
    assert 2 < time.monotonic() - begun < 20  # W&B itself waits a quarter of an hour
    *beginnings, line = capfd.readouterr().err.splitlines()
    assert all("is tracked at http://" in beginning for beginning in beginnings)
    assert line == (
        "tracking: goes on although W&B does not take everything (RuntimeError: no answer for 2 s; "
        f"`bonepipe sync {tmp_path}` uploads what is left)"
    )
    server = back()
    assert main(["sync", str(tmp_path)]) == 0
    (told,) = server.runs.values()
    assert [row["epoch"] for row in told.history] == [1, 2, 3, 4]
    assert told.exit_code == 0
    server.requests.clear()
    assert main(["sync", str(tmp_path)]) == 0
    assert "UpsertBucket" not in server.requests


def test_a_run_that_the_server_took_is_not_uploaded_again(tmp_path, wandb_server, capsys):
    with Tracking().start("demo", "fold", "fold-0", {}, tmp_path) as run:
        run.epochs(EPOCHS)
    wandb_server.requests.clear()
    assert main(["sync", str(tmp_path)]) == 0
    assert "UpsertBucket" not in wandb_server.requests
