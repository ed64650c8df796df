"""Sums over pixels of terms of the logits: what most losses are made of, in blocks that a cache holds.

Written out with autograd, a loss keeps every step between logits and sum as a float32 copy of the logits, and each step
is a pass over memory. Here all steps are taken on a block of pixels while it is in the cache, and the backward pass
computes the block anew (Chen 2016, "Training deep nets with sublinear memory cost", section 3): between the passes
nothing but the arguments is kept, logits in their own number format and targets as bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar, Protocol, TypeVar

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

TINY = 1e-12  # keeps 0 / 0, of a sample whose pixels are all ignored, at 0
CACHED = 1 << 16  # logits of a block on a CPU: 256 KiB a step, of which a second-level cache holds several
LAUNCHED = 1 << 22  # elsewhere: few enough for the cache of a large GPU, and enough for a step to outlast its launch
T = TypeVar("T")
Block = tuple[slice, slice, slice]  # samples, all classes, rows


class Labels:
    """What logits `[N, C, h, w]` are compared with.

    Args:
        targets: `[N, C, h, w]` of any number format, 0 to `parts`.
        weight: of the pixels, float32 `[N, C, h, w]` (an expanded view will do), not negative, or None: see
            `loss_terms`.
        parts: the targets of a pixel that is inside.

    Attributes:
        existing, area: how many pixels exist, and how many of them are inside, float32 `[N, C]`.
    """

    def __init__(self, targets: Tensor, weight: Tensor | None = None, parts: int = 1) -> None:
        self.targets, self.weight, self.parts = targets, weight, parts
        counts = targets.new_zeros(targets.shape[:2], dtype=torch.float32)
        self.existing = counts + targets[0, 0].numel() if weight is None else weight.sum((2, 3))

        def work(some: Sequence[Block]) -> Tensor:
            total = torch.zeros_like(counts)
            for block in some:
                inside = targets[block].float()
                total[block[0]] += (inside if weight is None else inside * weight[block]).sum((2, 3))
            return total

        self.area = torch.stack(shared_out(work, targets)).sum(0) / parts

    @property
    def share(self) -> Tensor:
        """The share of the existing pixels that is inside, float32 `[N, C]`."""
        return self.area / self.existing.clamp(min=TINY)


class Pixels:
    """A block of pixels `[n, C, r, w]` in float32, all in the layout of the logits.

    Attributes:
        logits, targets: targets are 0 to 1, the share of a pixel that is inside.
        probability: of being inside, as the logits have it.
        weight: of the pixels, or None.
        samples: which of the batch they belong to.
    """

    def __init__(self, logits: Tensor, targets: Tensor, weight: Tensor | None, parts: int, block: Block) -> None:
        number = torch.promote_types(logits.dtype, torch.float32)  # float64 stays, for gradcheck
        self.samples, self.logits = block[0], logits[block].to(number)
        self.probability = self.logits.sigmoid()
        self.targets = torch.div(targets[block], parts, out=torch.empty_like(self.logits))
        self.weight = None if weight is None else weight[block].to(number)

    def entropy(self, targets: Tensor) -> Tensor:
        """Binary cross entropy with some targets t: max(z, 0) - t * z + log(1 + exp(-|z|))."""
        if self.logits.device.type != "cpu":
            return functional.binary_cross_entropy_with_logits(self.logits, targets, reduction="none")
        tail = self.logits.abs().neg_().sigmoid_().neg_().log1p_()  # a fourth of torch's log_sigmoid's time
        return torch.addcmul(self.logits.clamp(min=0), targets, self.logits, value=-1).sub_(tail)


class Term(Protocol):
    """Values of a pixel that are to be summed, and their slopes; `count` is how many."""

    count: ClassVar[int]

    def values(self, pixels: Pixels) -> Sequence[Tensor]:
        """One or more values of each pixel."""
        ...

    def slope(self, pixels: Pixels, upstream: Sequence[Tensor]) -> Tensor:
        """The derivative by the logits of the values' sum, each times its factor `[n, C, 1, 1]`."""
        ...


def blocks(tensor: Tensor) -> Iterator[Block]:
    """Blocks of `[N, C, h, w]`: whole samples, or rows of one; in either layout their inner axes lie side by side."""
    samples, classes, height, width = tensor.shape
    limit = CACHED if tensor.device.type == "cpu" else LAUNCHED
    rows = min(height, max(1, limit // (classes * width)))
    together = max(1, limit // (classes * height * width))
    for first in range(0, samples, together):
        for top in range(0, height, rows):
            yield slice(first, first + together), slice(None), slice(top, top + rows)


def shared_out(work: Callable[[Sequence[Block]], T], tensor: Tensor) -> list[T]:
    """Share a tensor's blocks out among as many threads as torch would use; the results in the blocks' order.

    Each thread takes its blocks through all steps. Were each step shared out, every one of them would end with waiting
    for the last thread, which takes long where other processes want the cores too.
    """
    if torch.compiler.is_compiling():  # which makes one pass of the steps itself
        return [work([(slice(None), slice(None), slice(None))])]
    todo, threads = list(blocks(tensor)), torch.get_num_threads()
    if tensor.device.type != "cpu" or min(len(todo), threads) == 1:
        return [work(todo)]
    size = -(-len(todo) // threads)
    torch.set_num_threads(1)  # what threads that start now take over: a step in them is theirs alone
    try:
        with ThreadPoolExecutor(threads) as pool:
            return list(pool.map(torch.no_grad()(work), (todo[i : i + size] for i in range(0, len(todo), size))))
    finally:
        torch.set_num_threads(threads)


def pixel_sums(logits: Tensor, labels: Labels, *terms: Term) -> Tensor:
    """The sums of the terms' values over the pixels that exist, `[K, N, C]`; logits may be of any layout."""
    sums: Tensor = _PixelSums.apply(logits, labels.targets, labels.weight, labels.parts, terms)
    return sums


class _PixelSums(torch.autograd.Function):
    """Keeps its arguments alone, and computes each block anew in the backward pass."""

    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, targets: Tensor, weight: Tensor | None, parts: int, terms: tuple[Term, ...]
    ) -> Tensor:
        ctx.save_for_backward(logits, targets, weight)
        ctx.parts, ctx.terms = parts, terms
        shape = sum(term.count for term in terms), *logits.shape[:2]

        def work(some: Sequence[Block]) -> Tensor:
            sums = logits.new_zeros(shape, dtype=torch.promote_types(logits.dtype, torch.float32))
            for block in some:
                pixels = Pixels(logits, targets, weight, parts, block)
                values = (value for term in terms for value in term.values(pixels))
                for index, value in enumerate(values):
                    counted = value if pixels.weight is None else value * pixels.weight
                    sums[index, block[0]] += counted.sum((2, 3))
            return sums

        return torch.stack(shared_out(work, logits)).sum(0)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        logits, targets, weight = ctx.saved_tensors
        counts, gradient = [term.count for term in ctx.terms], torch.empty_like(logits)

        def work(some: Sequence[Block]) -> None:
            for block in some:
                pixels = Pixels(logits, targets, weight, ctx.parts, block)
                factors = upstream[:, block[0], :, None, None].split(counts)
                first, *others = (term.slope(pixels, part) for term, part in zip(ctx.terms, factors, strict=True))
                for slope in others:
                    first += slope
                gradient[block] = first if pixels.weight is None else first.mul_(pixels.weight)

        shared_out(work, logits)
        return gradient, None, None, None, None
