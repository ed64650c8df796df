"""Checkpoints, weights and arrays: containers whose headers say what the bytes behind them mean."""

import io
import json
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from hypothesis import strategies as st
from torch import nn

from bonepipe.inference.oof import byte_maps
from bonepipe.inference.oof.results import read_counts, read_curves
from bonepipe.labels.histogram import BINS
from bonepipe.training.checkpoint import require_sound
from bonepipe.training.weights_file import read_facts, read_weights, save_weights

from . import mutate
from .engine import Target
from .texts import CLASSES, IMAGES, first_refusal

NEVER_OTHER = "the file before bits were flipped"


class Tiny(pl.LightningModule):
    """Two weights and a bias."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.model = nn.Linear(2, 1)


def tiny_weights(path: Path, facts: dict[str, Any]) -> None:
    """Write a weights file."""
    save_weights(Tiny().model, path, facts)


def same(one: Any, other: Any) -> bool:
    """Whether two trees of values and tensors are equal, NaN with NaN."""
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(value, other[key]) for key, value in one.items())
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return repr(one) == repr(other)


def state() -> dict[str, Any]:
    """A checkpoint after one epoch, as Lightning writes it."""
    weights = {f"model.{name}": value for name, value in Tiny().model.state_dict().items()}
    best = {name.removeprefix("model."): value for name, value in weights.items()}
    return {
        "epoch": 0, "global_step": 3, "pytorch-lightning_version": "2.6.6", "state_dict": weights,
        "loops": {"fit_loop": {"epoch_progress": {"current": {"processed": 1, "ready": 1}}}},
        "callbacks": {
            "BestWeights": {"dice": 0.5, "epoch": 0, "weights": best}, "History": {"rows": [{"epoch": 0.0}]},
            "StepHistory": {"rows": [{"epoch": 0.0, "loss": 1.0}]},
            "Ema": {"averaged": {"module.weight": weights["model.weight"], "module.bias": weights["model.bias"]}},
        },
        "optimizer_states": [{"state": {0: {"exp_avg": torch.zeros(1, 2)}}, "param_groups": [{"lr": 0.1,
        "params": [0, 1]}]}],
        "lr_schedulers": [{"last_epoch": 1}],
    }  # fmt: skip


def saved(content: Any) -> bytes:
    """What torch.save writes."""
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


def check_checkpoint(path: Path, content: bytes) -> None:
    """A checkpoint to go on from."""
    require_sound(path, Tiny())


def checkpoint_target(_: Path) -> list[Target]:
    """Checkpoints: other contents, and flipped bits."""
    whole = saved(state())

    def check_flipped(path: Path, content: bytes) -> None:
        require_sound(path, Tiny())
        assert same(torch.load(path, weights_only=True), state()), "damaged, and taken"

    contents = st.just(state()) | st.sampled_from((None, [], {}, 1, "x", torch.zeros(2)))
    return [
        Target("checkpoints' contents", contents, saved, mutate.tree, check_checkpoint, "last.ckpt"),
        Target(
            "checkpoints with flipped bits", st.just(whole), bytes, mutate.flips, check_flipped, "last.ckpt",
            NEVER_OTHER, damage=False,
        ),
    ]  # fmt: skip


FACTS = {
    "classes": [*CLASSES], "fold": 0, "augmentations": ["HorizontalFlip"], "seen": {"Rotate": [-10.0, 10.0]},
    "aspects": [1.0, 1.2], "usual": {"mean": 0.4}, "chosen": {"source": "best", "epoch": 3, "dice": 0.9,
    "average": None},
}  # fmt: skip


def safetensors(document: Any) -> bytes:
    """A header that may be wrong, and 12 bytes: https://github.com/huggingface/safetensors, section Format."""
    parts = document if isinstance(document, dict) else {"header": document}
    facts, header = parts.get("facts"), parts.get("header")
    if isinstance(header, dict) and facts is not None:
        header = {**header, "__metadata__": {"bonepipe": json.dumps(facts)}}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + np.arange(3, dtype=np.float32).tobytes()


def check_weights(path: Path, content: bytes) -> None:
    """A weights file and its facts, against the tensors that its header tells of."""
    first_refusal(lambda: read_facts(path), lambda: _compare(path, content))


def _compare(path: Path, content: bytes) -> None:
    tensors, _ = read_weights(path)
    (length,) = struct.unpack_from("<Q", content)
    header = json.loads(content[8 : 8 + length])
    header.pop("__metadata__", None)
    assert tensors.keys() == header.keys(), "other tensors"
    for name, tensor in tensors.items():
        begin, end = header[name]["data_offsets"]
        data = tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
        assert list(tensor.shape) == header[name]["shape"], "another shape"
        assert data == content[8 + length + begin : 8 + length + end], "other numbers"


def weights_target(folder: Path) -> list[Target]:
    """Weights: other headers, and flipped bits."""
    path = folder / "whole.safetensors"
    tiny_weights(path, FACTS)
    whole, tensors = path.read_bytes(), read_weights(path)

    def check_flipped(path: Path, content: bytes) -> None:
        assert same(list(read_weights(path)), list(tensors)), "damaged, and taken"

    header = {
        "weight": {"dtype": "F32", "shape": [1, 2], "data_offsets": [0, 8]},
        "bias": {"dtype": "F32", "shape": [1], "data_offsets": [8, 12]},
    }
    types = st.sampled_from(("F32", "I32", "U32", "F16", "BF16", "F8_E4M3", "F8_E8M0", "F4", "BOOL", "C64", "F64", "x"))
    documents = types.map(
        lambda dtype: {"facts": FACTS, "header": {**header, "bias": {**header["bias"], "dtype": dtype}}}
    )
    return [
        Target("weights' headers", documents, safetensors, mutate.tree, check_weights, "weights.safetensors",
        "a plain reader"),
        Target(
            "weights with flipped bits", st.just(whole), bytes, mutate.flips, check_flipped,
            "weights.safetensors", NEVER_OTHER, damage=False,
        ),
    ]  # fmt: skip


def npz(document: Any) -> bytes:
    """Arrays whose headers may be wrong: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, array in document.items() if isinstance(document, dict) else ():
            archive.writestr(f"{name}.npy".replace("\0", "0").encode("utf-8", "replace").decode(), _npy(array))
    return file.getvalue()


def _npy(array: Any) -> bytes:
    if not isinstance(array, dict):
        return repr(array).encode("utf-8", "replace")
    shape, data = array.get("shape"), array.get("data")
    header = repr({"descr": array.get("descr"), "fortran_order": array.get("order"), "shape": _tuple(shape)}) + "\n"
    text = header.encode("latin1", "replace")[:60000]
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + (data if isinstance(data, bytes) else b"")


def _tuple(shape: Any) -> Any:
    return tuple(shape) if isinstance(shape, list) else shape


def arrays(**named: np.ndarray) -> dict[str, Any]:
    """A document of `npz`."""
    return {
        name: {"descr": value.dtype.str, "order": False, "shape": [*value.shape], "data": value.tobytes()}
        for name, value in named.items()
    }


def check_counts(path: Path, content: bytes) -> None:
    """The histograms of a fold."""
    names, counts = read_counts(path, CLASSES)
    assert all(isinstance(name, str) for name in names)
    assert counts.shape == (len(names), len(CLASSES), 2, BINS), "another shape"
    assert counts.dtype.kind in "iu", "no counts"
    _, curves = read_curves(path, CLASSES)
    assert ((curves >= 0) & (curves <= 1 + 1e-9)).all(), "no Dice"


def check_maps(path: Path, content: bytes) -> None:
    """The probabilities of a fold, all of them unpacked."""
    maps = byte_maps.read(path, CLASSES)
    for index in range(len(maps.names)):
        assert maps.maps(index).shape == (len(CLASSES), *maps.shapes[index])


def arrays_target(folder: Path) -> list[Target]:
    """Histograms and probabilities."""
    counts = np.zeros((len(IMAGES), len(CLASSES), 2, BINS), np.int32)
    counts[:, :, 0, 0], counts[:, :, 1, 200] = 100, 20
    facts = {"names": np.array(IMAGES), "classes": np.array(CLASSES)}
    histograms = arrays(**facts, counts=counts)
    maps = np.random.default_rng(0).random((len(IMAGES), len(CLASSES), 6, 5), np.float32)
    path = folder / "probabilities.npz"
    byte_maps.write(path, IMAGES, CLASSES, [(6, 5)] * len(IMAGES), [byte_maps.pack(of_image) for of_image in maps])
    with np.load(path) as file:
        probabilities = arrays(**{name: file[name] for name in file.files})
    whole, expected = npz(histograms), counts.copy()

    def check_flipped(path: Path, content: bytes) -> None:
        names, found = read_counts(path, CLASSES)
        if names != [*IMAGES] or not np.array_equal(found, expected):
            raise AssertionError("damaged, and taken")

    return [
        Target("histograms", st.just(histograms), npz, mutate.tree, check_counts, "histograms.npz",
        "its shape and range"),
        Target(
            "histograms with flipped bits", st.just(whole), bytes, mutate.flips, check_flipped,
            "histograms.npz", NEVER_OTHER, damage=False,
        ),
        Target("probabilities", st.just(probabilities), npz, mutate.tree, check_maps, "probabilities.npz", "its shape"),
    ]  # fmt: skip
