"""What a real network says of the material at three points of its training: glow, stray spots, unsure edges and all.

Trained by the bench itself, once, on a small phantom of other patients, and kept.
"""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytorch_lightning as pl
import torch

from bonepipe.data.phantom.dataset import write_dataset
from bonepipe.parallel import cores
from bonepipe.pipeline.experiment import Experiment
from bonepipe.training.callbacks import SaveLast
from bonepipe.training.fit import TrainerSpec, make_trainer
from bonepipe.training.module import SegmentationModule

from .material import Material, grey
from .measure import threads

POINTS = {"early": 10, "middle": 60, "trained": 240}  # optimiser steps
SIDE, BATCH, PATIENTS = 160, 4, 24  # the demo's input and batch; patients trained on
SEED = 1000  # of their phantom, which shares no patient with the material's


class Witness(pl.Callback):
    """Keeps a network's logits of some images after given numbers of steps."""

    def __init__(self, images: torch.Tensor, steps: Sequence[int]) -> None:
        self.images, self.steps = images, steps
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


def write_maps(material: Material, points: Sequence[int] = tuple(POINTS.values()), side: int = SIDE) -> Path:
    """The logits float16 `[K, N, C, side, side]` of the material's training images, made when first asked for."""
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
    witness = Witness(torch.from_numpy(np.stack([grey(image, side) for image in material.train])), points)
    spec = TrainerSpec(epochs=1, batch_size=BATCH, workers=0)
    with threads(cores()):
        trainer = make_trainer(spec, [witness, SaveLast(material.folder / "learned.ckpt")], "cpu", material.folder)
        trainer.fit(module, data.train_dataloader())
    np.save(path, np.stack(witness.logits))
    return path


@lru_cache(maxsize=4)
def _read(path: Path) -> np.ndarray:
    return np.load(path)


def logits_of(material: Material, index: int, size: int, point: str) -> np.ndarray:
    """Logits float32 `[C, size, size]` of a training image at a point of the training, brought to a model's size."""
    small = _read(write_maps(material))[list(POINTS).index(point), index].astype(np.float32)
    return np.stack([cv2.resize(map_, (size, size), interpolation=cv2.INTER_CUBIC) for map_ in small])
