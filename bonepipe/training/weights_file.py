"""Weights files: safetensors with facts about them, and checksums of both, which tell where a byte was flipped."""

import json
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import torch
from annotated_types import Len
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn
from typing_extensions import TypedDict

from bonepipe.errors import BonepipeError, reason
from bonepipe.files import replacing
from bonepipe.forms import fitting
from bonepipe.training.finite import require_finite

FACTS = "bonepipe"  # the entry of the file's metadata
CHECKSUMS = "crc32"  # the key among the facts
WAY_OUT = "put back a copy, or train the fold again (name=... keeps this run)"


class Checksums(TypedDict):
    """CRC-32 of the facts without these, and of the tensors: 2.7 GB/s, and no four bytes in a row change unnoticed."""

    facts: int
    tensors: int


KEYS = Checksums.__annotations__.keys()


class Chosen(TypedDict, total=False):
    """See `bonepipe.training.fit.Chosen`."""

    source: str
    epoch: int
    dice: float
    average: float | None


class Facts(TypedDict, total=False):
    """What a weights file says of itself; nothing of it has to be there, in files of other versions or programs."""

    classes: list[str]
    fold: int
    augmentations: list[str]
    seen: dict[str, list[float]]
    aspects: Annotated[list[float], Len(2, 2)] | None
    usual: dict[str, Any]
    chosen: Chosen
    crc32: Checksums


def save_weights(model: nn.Module, path: Path, facts: Mapping[str, Any]) -> None:
    """Write a model's weights as safetensors, atomically, with facts about them in the file's metadata.

    Raises:
        BonepipeError: a weight is not finite; nothing is written.
    """
    require_finite(model.state_dict(), path, "so it is not written; try a lower optimizer.lr")
    tensors = {key: value.detach().cpu().contiguous().clone() for key, value in model.state_dict().items()}
    checksums = {"facts": _of_facts(facts), "tensors": _of_tensors(tensors)}
    with replacing(path) as part:
        # One entry: safetensors writes several in random order, and equal weights should be equal files.
        save_file(tensors, part, {FACTS: json.dumps({**facts, CHECKSUMS: checksums})})
        part.chmod(0o644)  # safetensors makes files that only their owner may read


def read_weights(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Tensors and facts of a weights file; nothing in it is executed.

    Raises:
        BonepipeError: no such file, no weights, or not as they were written, where a checksum tells.
    """
    with _opened(path) as (file, facts, checksums):
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a mapping
        if checksums and _of_tensors(tensors) != checksums["tensors"]:
            raise BonepipeError(f"{path}: is damaged: its tensors are not as they were written; {WAY_OUT}")
        return tensors, facts


def read_facts(path: Path) -> dict[str, Any]:
    """What a weights file says of itself, without reading its tensors; raises as `read_weights`."""
    with _opened(path) as (_, facts, _):
        return facts


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, dict[str, Any], Checksums | None]]:
    """An open weights file, its facts, and the checksums of both, if any."""
    try:
        with safe_open(path, "pt") as file:
            yield file, *_facts_of(file.metadata() or {})
    except OSError as error:
        raise BonepipeError(f"{path}: cannot be read as safetensors ({error})") from error
    except (SafetensorError, ValueError) as error:
        raise BonepipeError(f"{path}: cannot be read as safetensors ({reason(error)}); {WAY_OUT}") from error


def _facts_of(metadata: Mapping[str, str]) -> tuple[dict[str, Any], Checksums | None]:
    """The facts, and the checksums. Raises ValueError where they are not as they were written, or not named so."""
    facts: dict[str, Any] = dict(fitting(metadata.get(FACTS, "{}"), Facts))
    checksums: Checksums | None = facts.pop(CHECKSUMS, None)
    if checksums is None:
        renamed = [text for name, text in metadata.items() if name != FACTS and _tells_facts(text)]
        renamed += [name for name, fact in facts.items() if isinstance(fact, dict) and fact.keys() & KEYS]
        if renamed:
            raise ValueError("its checksums are not where they were written")
    elif _of_facts(facts) != checksums["facts"]:
        raise ValueError("its facts are not as they were written")
    return facts, checksums


def _tells_facts(text: str) -> bool:
    """Whether a text of the metadata has more of our facts than chance gives other programs' files."""
    names = [name for name in Facts.__annotations__ if f'"{name}"' in text]
    return CHECKSUMS in names or len(names) > 2


def _of_facts(facts: Mapping[str, Any]) -> int:
    return zlib.crc32(json.dumps(facts, sort_keys=True).encode())


def _of_tensors(tensors: Mapping[str, torch.Tensor]) -> int:
    """Of all bytes, with the names, types and shapes that make numbers of them."""
    crc = 0
    for name, tensor in sorted(tensors.items()):
        crc = zlib.crc32(f"{name} {tensor.dtype} {list(tensor.shape)}".encode(), crc)
        crc = zlib.crc32(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data, crc)
    return crc
