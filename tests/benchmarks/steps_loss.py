"""The loss of a training step, forward and backward, against the same written out with autograd."""

from collections.abc import Callable

import torch

from bonepipe.parallel import cores
from bonepipe.training.losses import BCEDice, DiceFocal, DiceTopK, Loss
from tests import plain_losses as plain

from .child import resident_bytes
from .measure import MB, alternate, run_child, threads
from .table import Row, faster

Shape = tuple[int, int, int, int]
Each = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
PARTS = 4  # sub-pixels of a pixel, as the experiments have it at 512

PAIRS: dict[str, tuple[Loss, Each]] = {
    "DiceFocal": (DiceFocal(), lambda z, t: plain.tversky(z, t) + 4 * plain.focal(z, t)),
    "BCE + Dice": (BCEDice(), lambda z, t: plain.tversky(z, t) + plain.bce(z, t)),
    "Dice + Top-k": (DiceTopK(), lambda z, t: plain.tversky(z, t) + plain.top_k(z, t, 0.1)),
}


def batch(shape: Shape) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits and counts of sub-pixels, in the memory layout in which networks and loaders give them."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.empty(shape, memory_format=torch.channels_last).normal_(0, 4, generator=generator)
    counts = torch.empty(shape, dtype=torch.uint8, memory_format=torch.channels_last)
    return logits.requires_grad_(), counts.random_(0, PARTS + 1, generator=generator)


def shares(counts: torch.Tensor) -> torch.Tensor:
    """What the plain losses take for them: float32, in memory class by class."""
    return counts.to(torch.float32, memory_format=torch.contiguous_format).div_(PARTS)


def step(each: Callable[..., torch.Tensor], logits: torch.Tensor, *labels: object) -> torch.Tensor:
    """Mean loss, its gradient left in the logits."""
    logits.grad = None
    loss = each(logits, *labels).mean()
    loss.backward()
    return loss.detach()


def check_loss(name: str, shape: Shape) -> str:
    """Values and gradients of both."""
    ours, theirs = PAIRS[name]
    logits, counts = batch(shape)
    values, gradients = [], []
    for each, labels in ((ours.each, (counts, None, PARTS)), (theirs, (shares(counts),))):
        values.append(float(step(each, logits, *labels)))
        gradients.append(logits.grad)
    gap = abs(values[0] / values[1] - 1)
    of_gradient = float((gradients[0] - gradients[1]).abs().max() / gradients[1].abs().max())
    assert max(gap, of_gradient) < 1e-5, (gap, of_gradient)
    return f"values differ by {gap:.0e} of theirs, gradients by at most {of_gradient:.0e} of the largest"


def peak(name: str, which: str, *shape: str) -> int:
    """Bytes that one step takes at most beyond logits and labels; for a process of its own."""
    ours, theirs = PAIRS[name]
    logits, counts = batch(tuple(map(int, shape)))  # type: ignore[arg-type]
    each, labels = (ours.each, (counts, None, PARTS)) if which == "ours" else (theirs, (shares(counts),))
    del counts
    before = resident_bytes()
    step(each, logits, *labels)
    return resident_bytes("VmHWM") - before


def lean(repeats: int, shape: Shape = (4, 29, 512, 512)) -> list[Row]:
    """Time and memory of each sum of two losses."""
    return [row for name in PAIRS for row in (_time(name, shape, repeats), _memory(name, shape))]


def _time(name: str, shape: Shape, repeats: int) -> Row:
    (ours, theirs), (logits, counts) = PAIRS[name], batch(shape)
    floats = shares(counts)
    with threads(cores()):
        pair = alternate(
            lambda: step(theirs, logits, floats), lambda: step(ours.each, logits, counts, None, PARTS), repeats
        )
    title = f"{name}, forward + backward, batch {' x '.join(map(str, shape))}, {cores()} threads"
    return faster(title, pair, 2, check_loss(name, shape))


def _memory(name: str, shape: Shape) -> Row:
    function = "tests.benchmarks.steps_loss:peak"
    theirs, ours = (
        run_child(function, name, which, *shape, thread_count=cores()).result for which in ("theirs", "ours")
    )
    return Row(
        "... peak memory beyond logits and labels",
        f"{theirs / MB:,.0f} MB",
        f"{ours / MB:,.0f} MB",
        f"{theirs / ours:.1f}x",
        "at most half",
        ours <= theirs / 2,
        "a process each",
    )
