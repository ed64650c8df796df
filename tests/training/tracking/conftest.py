"""W&B as a user meets it who has never logged in."""

import os

import pytest


@pytest.fixture
def no_login(monkeypatch, tmp_path):
    """A home folder without a login, and none of W&B's variables."""
    import wandb

    for name in [name for name in os.environ if name.startswith("WANDB") or name == "NETRC"]:
        monkeypatch.delenv(name)
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    wandb.teardown()  # which forgets what it has read
    yield tmp_path / "home"
    wandb.teardown()
