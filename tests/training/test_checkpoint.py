"""What a training goes on from is as it was written and fits; everything else is named before a step is made."""

import io
import random
import re
import struct
import zipfile

import pytest
import torch

from bonepipe.errors import BonepipeError
from bonepipe.training.averaging import ExponentialMovingAverage
from bonepipe.training.checkpoint import require_sound
from bonepipe.training.fit import TrainerSpec, train_fold
from bonepipe.training.tracking import Run

WAY_OUT = r"move it away, and the same command trains the fold from its start"


@pytest.fixture(scope="module")
def train(make_store, make_module, make_data):
    """Train in a folder, or go on there."""
    store = make_store(6)

    def run(folder, epochs=3, **network):
        module = make_module(**{"momentum": 0.9, "norm": True, **network})
        settings = {"device": "cpu", "folder": folder, "title": "fold 0", "run": Run()}
        spec = TrainerSpec(epochs=epochs, batch_size=3)
        return module, train_fold(module, make_data(store), ExponentialMovingAverage(), spec, **settings)

    return run


@pytest.fixture(scope="module")
def written(train, tmp_path_factory):
    """The checkpoint of a training, as bytes."""
    folder = tmp_path_factory.mktemp("run")
    train(folder, epochs=2)
    return (folder / "last.ckpt").read_bytes()


@pytest.fixture
def path(written, tmp_path):
    (tmp_path / "last.ckpt").write_bytes(written)
    return tmp_path / "last.ckpt"


def test_a_good_one_is_gone_on_from(path, train):
    train(path.parent)
    assert (path.parent / "metrics.csv").read_text().count("\n") == 4


def same(one, other):
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(value, other[key]) for key, value in one.items())
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return repr(one) == repr(other)  # NaN is what it is


def test_no_flipped_byte_changes_what_is_gone_on_from(path, written, make_module):
    """Only in the padding between two tensors no byte means anything."""
    content, draw, refused = torch.load(path, weights_only=True), random.Random(0), 0
    for place in [*range(len(written) - 4000, len(written), 31), *draw.sample(range(len(written)), 60)]:
        path.write_bytes(written[:place] + bytes([written[place] ^ 1 << draw.randrange(8)]) + written[place + 1 :])
        try:
            require_sound(path, make_module(momentum=0.9, norm=True))
        except BonepipeError as error:
            assert re.search(rf"last\.ckpt: (is no checkpoint, or damaged|holds no state) .*{WAY_OUT}", str(error))
            refused += 1
        else:
            assert same(torch.load(path, weights_only=True), content)
    assert refused > 70


def test_four_flipped_bytes_in_the_tensors_are_noticed(path, written, train):
    """24 of 24; torch itself reads them as other numbers."""
    with zipfile.ZipFile(path) as archive:
        tensors = [entry for entry in archive.infolist() if "/data/" in entry.filename and entry.file_size > 4]
    draw, read = random.Random(0), 0
    for _ in range(24):
        damaged = bytearray(written)
        for entry in draw.choices(tensors, k=4):
            start = entry.header_offset + 30 + sum(struct.unpack_from("<HH", written, entry.header_offset + 26))
            damaged[start + draw.randrange(entry.file_size)] ^= 1 << draw.randrange(8)
        path.write_bytes(damaged)
        read += not same(torch.load(path, weights_only=True), torch.load(io.BytesIO(written), weights_only=True))
        with pytest.raises(
            BonepipeError, match=rf"last\.ckpt: is no checkpoint, or damaged .* is not as it.*{WAY_OUT}"
        ):
            train(path.parent)
    assert read == 24


def without(content, *keys):
    *way, last = keys
    for key in way:
        content = content[key]
    del content[last]


def put(content, *keys_and_value):
    *way, last, value = keys_and_value
    for key in way:
        content = content[key]
    content[last] = value


MOMENT = ("optimizer_states", 0, "state", 0, "momentum_buffer")
GROUP = ("optimizer_states", 0, "param_groups", 0)
BEST = ("callbacks", "BestWeights")
WRONG = {
    "no optimizer": (without, "optimizer_states"),
    "no weights": (without, "state_dict"),
    "no loops": (without, "loops"),
    "no callbacks": (without, "callbacks"),
    "no schedules": (without, "lr_schedulers"),
    "no epoch": (without, "epoch"),
    "no version": (without, "pytorch-lightning_version"),
    "no loop of the fit": (without, "loops", "fit_loop"),
    "no progress": (without, "loops", "fit_loop", "epoch_progress"),
    "no best weights": (without, *BEST),
    "no Dice of the best": (without, *BEST, "dice"),
    "no history": (without, "callbacks", "History", "rows"),
    "no rate": (without, *GROUP, "lr"),
    "no momentum setting": (without, *GROUP, "momentum"),
    "a version that is a number": (put, "pytorch-lightning_version", 2),
    "a version that is none": (put, "pytorch-lightning_version", "new"),
    "weights as a list": (put, "state_dict", []),
    "weights that are numbers": (put, "state_dict", "model.last.bias", 1.0),
    "an epoch that is a text": (put, "epoch", "one"),
    "a negative epoch": (put, "epoch", -1),
    "a loop that is a number": (put, "loops", "fit_loop", 3),
    "progress that is a text": (put, "loops", "fit_loop", "epoch_progress", "current", "completed", "one"),
    "an epoch after the last": (put, "loops", "fit_loop", "epoch_progress", "current", "processed", 10**9),
    "callbacks as a list": (put, "callbacks", []),
    "a callback that is a number": (put, "callbacks", "BestWeights", 1),
    "another callback that is a text": (put, "callbacks", "Other", "weights"),
    "another callback that is a list": (put, "callbacks", "Other", []),
    "another callback's weights that are numbers": (put, "callbacks", "Other", {"weights": 5}),
    "an average that is a number": (put, "callbacks", "ExponentialMovingAverage", {"averaged": 1}),
    "an average of texts": (put, "callbacks", "ExponentialMovingAverage", "averaged", "module.last.bias", "x"),
    "an average of another shape": (
        put, "callbacks", "ExponentialMovingAverage", "averaged", "module.last.bias", torch.zeros(9),
    ),
    "best weights of another shape": (put, *BEST, "weights", "last.bias", torch.zeros(9)),
    "best weights that are not finite": (put, *BEST, "weights", "last.bias", torch.full((2,), torch.nan)),
    "history of texts": (put, "callbacks", "History", "rows", ["x"]),
    "history of the steps of texts": (put, "callbacks", "StepHistory", "rows", [{"epoch": "x"}]),
    "two optimizers": (put, "optimizer_states", []),
    "an optimizer that is a text": (put, "optimizer_states", 0, "SGD"),
    "another number of groups": (put, "optimizer_states", 0, "param_groups", []),
    "a rate that is a text": (put, *GROUP, "lr", "fast"),
    "a rate that is not finite": (put, *GROUP, "lr", float("nan")),
    "moments of another shape": (put, *MOMENT, torch.zeros(7, 1, 3, 3)),
    "moments that are not finite": (put, *MOMENT, torch.full((4, 1, 3, 3), torch.inf)),
    "moments that are texts": (put, *MOMENT, "x"),
    "a schedule that is a number": (put, "lr_schedulers", 0, 1),
    "a schedule without a state": (put, "lr_schedulers", 0, {}),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_a_checkpoint_of_wrong_content_is_named(path, train, name):
    content = torch.load(path, weights_only=True)
    change, *how = WRONG[name]
    change(content, *how)
    torch.save(content, path)
    with pytest.raises(BonepipeError, match=rf"last\.ckpt: .*{WAY_OUT}"):
        train(path.parent)
    assert (path.parent / "metrics.csv").exists() is False, "a step was made"


@pytest.mark.parametrize("content", [None, 1, [], {}, "x", torch.zeros(2), {"state_dict": {}, "callbacks": {}}])
def test_whatever_else_torch_can_save_is_named(path, train, content):
    torch.save(content, path)
    with pytest.raises(BonepipeError, match=rf"last\.ckpt: holds no state of a training, .*{WAY_OUT}"):
        train(path.parent)


def test_an_archive_that_is_compressed_is_none_of_torch(path, train):
    """A small file could unpack to more than the memory holds."""
    with zipfile.ZipFile(path) as archive, zipfile.ZipFile(path.with_name("x"), "w", zipfile.ZIP_DEFLATED) as packed:
        for entry in archive.infolist():
            packed.writestr(entry.filename, archive.read(entry))
    path.with_name("x").replace(path)
    with pytest.raises(BonepipeError, match=rf"last\.ckpt: .*plain entries alone.*{WAY_OUT}"):
        train(path.parent)


def test_a_folder_in_its_place_is_named(tmp_path, train):
    (tmp_path / "last.ckpt").mkdir()
    with pytest.raises(BonepipeError, match=rf"last\.ckpt: .*directory.*{WAY_OUT}"):
        train(tmp_path)
