"""What a real network says of the material at three points of its training: glow, stray spots, unsure edges and all.

The bench trains it itself, once, on a small phantom of other patients, and keeps what it says. A row that depends on it
is measured at each point, and the slowest counts.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytorch_lightning as pl
import torch

from bonepipe.data.phantom.dataset import write_dataset
from bonepipe.pipeline.experiment import Experiment
from bonepipe.training.callbacks import SaveLast
from bonepipe.training.fit import TrainerSpec, make_trainer
from bonepipe.training.module import SegmentationModule

from .material import Material, grey
from .measure import Pair, threads

POINTS = ("early", "middle", "trained")
BATCH, PATIENTS = 4, 24  # the demo's batch; patients trained on
SEED = 1000  # of their phantom: the material's patients have others


class Witness(pl.Callback):
    """Keeps a network's logits of some images after given numbers of steps."""

    def __init__(self, images: Sequence[np.ndarray], steps: Sequence[int]) -> None:
        self.images, self.steps = torch.from_numpy(np.stack(images)), steps
        self.logits: list[np.ndarray] = []

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
        """Predict as validation would, with statistics computed anew."""
        if trainer.global_step in self.steps:
            pl_module.refresh()
            self.logits.append(predict(pl_module, self.images))


def predict(module: SegmentationModule, images: torch.Tensor) -> np.ndarray:
    """Logits float16 `[N, C, h, w]` of grey bytes, in evaluation mode."""
    module.eval()
    with torch.no_grad():
        logits = torch.cat([module(module.images({"image": image[None]})) for image in images])
    module.train()
    return logits.half().numpy()


def write_maps(material: Material) -> Path:
    """Logits float16 `[K, N, C, side, side]` of the training, then the test images, made when first asked for."""
    side, points = material.side, material.points
    path = material.folder / f"learned-{material.size}-{side}-{'-'.join(map(str, points))}.npy"
    if path.is_file():
        return path
    root = material.folder / f"phantom-{side}-to-learn"
    if not root.is_dir():
        write_dataset(root, PATIENTS, 0, 2 * side, seed=SEED)
    words = [f"data.root={root}", f"data.size={side}", "seed=0", "folds.count=2"]
    experiment = Experiment(material.config(*words, f"folds.file={material.folder / 'folds-to-learn.csv'}"))
    module, data = experiment.module(0), experiment.datamodule(0)
    data.setup("fit")
    data.sampler.indices = np.resize(np.arange(2 * PATIENTS), points[-1] * BATCH)
    witness = Witness([grey(image, side) for image in (*material.train, *material.unseen)], points)
    with threads(1):  # beside others' work two would spend their time waiting for each other
        callbacks = [witness, SaveLast(material.folder / "learned.ckpt")]
        trainer = make_trainer(TrainerSpec(epochs=1, batch_size=BATCH, workers=0), callbacks, "cpu", material.folder)
        trainer.fit(module, data.train_dataloader())
    np.save(path, np.stack(witness.logits))
    return path


@lru_cache(maxsize=2)
def _read(path: Path) -> np.ndarray:
    return np.load(path)


def logits_of(material: Material, index: int, size: int = 512, point: str = "trained") -> torch.Tensor:
    """Logits float32 `[1, C, size, size]` of a training image, or with `len(material.train)` added of a test image.

    They are brought from the network's size to the one that is asked for.
    """
    small = _read(write_maps(material))[POINTS.index(point), index].astype(np.float32)
    large = [cv2.resize(map_, (size, size), interpolation=cv2.INTER_CUBIC) for map_ in small]
    return torch.from_numpy(np.stack(large))[None]


def slowest(measure: Callable[[str], Pair]) -> tuple[str, Pair, str]:
    """The point of the training at which ours takes longest, what was measured there, and ours at all points."""
    pairs = {point: measure(point) for point in POINTS}
    point = max(pairs, key=lambda point: pairs[point].ours)
    return point, pairs[point], ", ".join(f"{name} {pair.ours * 1e3:.1f} ms" for name, pair in pairs.items())
