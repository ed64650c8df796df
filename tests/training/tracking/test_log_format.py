import pytest

from bonepipe.training.tracking import Tracking
from bonepipe.training.tracking.log_format import HEADER, pack, read_messages


@pytest.fixture
def log(tmp_path, monkeypatch):
    """A log of W&B's own with messages longer than a block."""
    import wandb

    monkeypatch.setenv("HOME", str(tmp_path))
    config = {f"key{number}": "x" * size for number, size in enumerate((10, 32_740, 70_000, 5, 32_768))}
    with Tracking(mode="offline", upload="all").start("demo", "fold", "fold-0", config, tmp_path) as run:
        run.summarise({f"scores {number}": number for number in range(500)})
    wandb.teardown()
    return next(tmp_path.glob("wandb/offline-run-*/run-*.wandb"))


def read(log):
    return [message for _, message in read_messages(log)]


def test_a_log_is_packed_as_wandb_packs_it(log):
    messages = read(log)
    assert max(map(len, messages)) > 100_000
    assert pack(log.read_bytes()[:HEADER], messages) == log.read_bytes()


@pytest.mark.parametrize("size", range(32_740, 32_770))
def test_messages_around_the_end_of_a_block_come_back(tmp_path, size):
    messages = [b"a" * size, b"b" * 40, b"", b"c" * size]
    (tmp_path / "log").write_bytes(pack(bytes(HEADER), messages))
    assert read(tmp_path / "log") == messages


def test_what_was_being_written_when_the_process_was_killed_is_left_out(tmp_path):
    content = pack(bytes(HEADER), [b"a" * 100, b"b" * 100])
    for torn in (1, 50, 99, 100, 106):
        (tmp_path / "log").write_bytes(content[:-torn])
        assert read(tmp_path / "log") == [b"a" * 100]
