"""A model that computes a real network's forward pass and then answers with prepared logits.

Nobody trains five networks of 512 pixels in a benchmark, and an untrained one's masks are empty or everything, unlike
a submission's. The answer is found by the image, whatever its size; mirrored images get the mirrored answer.
"""

import time
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from bonepipe.models.factory import smp_model
from bonepipe.training.module import normalise

from .learned import logits_of
from .material import Material, grey

FLIPS: tuple[tuple[int, ...], ...] = ((), (-1,), (-2,), (-2, -1))  # axes of the views that have answers
POINT = "middle"  # of a training, when masks are largest: unsure, with stray parts
TABLE_SIZE = 256  # pixels a side of the prepared logits


def submit(table: str, *words: str) -> float:
    """What the command `submit` does with a finished run, in which every model is a stand-in with this table."""
    from functools import partial

    import bonepipe
    from bonepipe.models import factory
    from bonepipe.pipeline import submission
    from bonepipe.pipeline.predictors.run import Run

    factory.smp_model = partial(StandIn, table=table)  # type: ignore[assignment]
    return float(submission.submit(Run(bonepipe.compose(words)))["test_dice"])


def submit_timed(table: str, *words: str) -> dict[str, float]:
    """The command `submit` as above; the seconds of all of it less the stand-ins' own, and of the forward passes."""
    start = time.perf_counter()
    submit(table, *words)
    return {"whole": time.perf_counter() - start - Clock.aside, "forward": Clock.forward}


class Clock:
    """Seconds spent in the network's forward passes, and aside, where the answer is looked up."""

    forward = 0.0
    aside = 0.0


class StandIn(nn.Module):
    """Like `smp_model`, with a table of answers made by `write_table`."""

    def __init__(
        self,
        classes: int,
        /,
        *,
        architecture: str = "Unet",
        encoder: str = "resnet18",
        encoder_weights: str | None = None,
        prior: float = 0.01,
        presence: bool = False,
        full_resolution: int | None = None,
        settings: dict[str, Any] | None = None,
        table: str = "",
    ) -> None:
        super().__init__()
        arguments = {"encoder": encoder, "encoder_weights": encoder_weights, "prior": prior, "settings": settings}
        arguments["full_resolution"] = full_resolution
        assert not presence, "a head that no benchmark measures"
        self.network = smp_model(classes, architecture=architecture, **arguments)
        self.keys, self.answers = read_table(table)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits `[N, C, h, w]` of images `[N, 1, h, w]`."""
        start = time.perf_counter()
        self.network(images)
        middle = time.perf_counter()
        answer = torch.cat([self._answer(image) for image in images[:, 0]])
        result = functional.interpolate(answer, images.shape[-2:], mode="bilinear")
        Clock.forward += middle - start
        Clock.aside += time.perf_counter() - middle
        return result

    def _answer(self, image: torch.Tensor) -> torch.Tensor:
        nearest = int((self.keys - key(image)).square().sum(1).argmin())
        return self.answers[nearest // len(FLIPS)][None].float().flip(FLIPS[nearest % len(FLIPS)])


def key(image: torch.Tensor) -> torch.Tensor:
    """What tells images and their mirror images `[h, w]` apart at any size: their means in 16 x 16 cells, `[256]`."""
    return functional.adaptive_avg_pool2d(image[None], 16).flatten()


@lru_cache(maxsize=2)
def read_table(path: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Keys float32 `[4 K, 256]` of images and mirror images, logits float16 `[K, C, h, w]`; all members share them."""
    with np.load(path) as file:
        return torch.from_numpy(file["keys"]), torch.from_numpy(file["answers"])


def write_table(material: Material, size: int) -> Path:
    """Prepare the answers for the phantom's test images at a model size."""
    path = material.folder / f"answers-learned-{material.size}-{size}.npz"
    if path.exists():
        return path
    spec, keys, answers = material.spec(size), [], []
    for number, image in enumerate(material.unseen, len(material.train)):
        pixels = normalise(torch.from_numpy(grey(image, size))[None], spec.mean, spec.std)[0, 0]
        keys += [key(pixels.flip(axes)).numpy() for axes in FLIPS]
        answers.append(logits_of(material, number, min(TABLE_SIZE, size), POINT)[0].half().numpy())
    np.savez(path, keys=np.stack(keys), answers=np.stack(answers))
    return path
