"""What each model of conf/model costs: parameters, operations, time and memory."""

import statistics
import timeit
import weakref
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from bonepipe import config as configs
from bonepipe.models.outputs import Outputs

COST_SIZE = 512  # pixels a side, for operations and memory
TIME_SIZE = 256  # pixels a side, for the time of a forward


class ModelRow(NamedTuple):
    """One model.

    Attributes:
        name: its file in conf/model.
        parameters: number of weights, buffers not counted.
        operations: floating-point operations of one image of 512 x 512, a multiplication and an addition being two.
        milliseconds: median time of one image of 256 x 256 in evaluation on this machine's CPU.
        training_bytes: most that is alive at once in forward and backward of two images of 512 x 512 in float32:
            weights, gradients and activations, without the optimiser's state and the libraries' scratch memory.
    """

    name: str
    parameters: int
    operations: int
    milliseconds: float
    training_bytes: int


def model_table(names: Iterable[str], *, repeats: int = 3) -> list[ModelRow]:
    """Build each option of conf/model from scratch and measure it; nothing is downloaded.

    Only the time needs real arithmetic; the rest comes from tensors that have shapes and no values.

    Raises:
        UsageError: there is no such option.
    """
    return [_row(name, repeats) for name in names]


def _row(name: str, repeats: int) -> ModelRow:
    model = build(name)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    elapsed = milliseconds(model, TIME_SIZE, repeats)
    model = model.to("meta")
    return ModelRow(name, parameters, operations(model, COST_SIZE), elapsed, training_bytes(model, COST_SIZE))


def build(name: str) -> nn.Module:
    """The model of an option of conf/model, with random weights, for the classes of the default dataset."""
    config = configs.compose([f"model={name}", "~experiment"])
    if "encoder_weights" in config["model"]:
        config["model"]["encoder_weights"] = None
    return configs.build(config, "model", len(config["data"]["classes"]))


def milliseconds(model: nn.Module, size: int, repeats: int) -> float:
    """Median time of a forward of one image in evaluation mode, after one that does not count."""
    images = torch.zeros(1, 1, size, size)
    with torch.inference_mode():
        model.eval()(images)
        return 1000 * statistics.median(timeit.repeat(lambda: model(images), number=1, repeat=repeats))


def operations(model: nn.Module, size: int | tuple[int, int]) -> int:
    """Floating-point operations of one image in evaluation mode: convolutions, matrix products, attention.

    Args:
        size: pixels a side, or height and width.
    """
    device, shape = next(model.parameters()).device, (size, size) if isinstance(size, int) else size
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model.eval()(torch.empty(1, 1, *shape, device=device))
    return counter.get_total_flops()


def training_bytes(model: nn.Module, size: int, images: int = 2) -> int:
    """The most bytes alive at once during forward and backward in training mode; leaves gradients behind."""
    device = next(model.parameters()).device
    batch = torch.empty(images, 1, size, size, device=device)
    with LiveBytes([batch, *model.parameters(), *model.buffers()]) as live:
        answer = model.train()(batch)
        maps = answer.maps if isinstance(answer, Outputs) else (answer,)
        torch.stack([logits.sum() for logits in maps]).sum().backward()
    return live.peak


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of all storages alive, `now` and at `peak`: those given, and those that operations make."""

    def __init__(self, tensors: Sequence[torch.Tensor] = ()) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._alive: set[int] = set()
        self._add(tensors)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run one operation and add what it made."""
        result = func(*args, **(kwargs or {}))
        self._add(leaf for leaf in tree_leaves(result) if isinstance(leaf, torch.Tensor))
        return result

    def _add(self, tensors: Iterable[torch.Tensor]) -> None:
        for tensor in tensors:
            storage = tensor.untyped_storage()  # views share one
            if id(storage) not in self._alive:
                self._alive.add(id(storage))
                self.now += storage.nbytes()
                weakref.finalize(storage, self._drop, id(storage), storage.nbytes())
        self.peak = max(self.peak, self.now)

    def _drop(self, identity: int, size: int) -> None:
        self._alive.discard(identity)
        self.now -= size
