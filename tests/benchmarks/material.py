"""What the steps work on: a phantom and submissions; made once and kept. `learned` has a network's predictions."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np

from bonepipe import config as configs
from bonepipe.data import submission
from bonepipe.data.catalog import Radiograph, test_images, train_images
from bonepipe.data.image import read_grey, resize_grey
from bonepipe.data.phantom.dataset import write_dataset
from bonepipe.data.spec import DataSpec
from bonepipe.data.store import Store, open_store
from bonepipe.labels import rle
from bonepipe.labels.cutout import to_mask

PATIENTS = 3  # train patients and as many test patients, two images each
VOTERS = ((0, 0, 3), (3, -2, 1), (-2, 4, 5))  # shift right and down, side of the dilation's square, in pixels


@dataclass(frozen=True)
class Material:
    """A phantom of square images, `size` pixels a side, in a folder where everything made from it is kept.

    Attributes:
        side: pixels a side of the images that a network learns from, see `learned`.
        points: of its training at which it predicts, in optimiser steps: hardly begun, half-way, at the end.
    """

    folder: Path
    size: int
    side: int = 160
    points: tuple[int, int, int] = (10, 60, 240)

    @property
    def root(self) -> Path:
        """The phantom, written when first asked for."""
        root = self.folder / f"phantom-{self.size}"
        if not root.is_dir():
            write_dataset(root, PATIENTS, PATIENTS, self.size)
        return root

    def config(self, *words: str) -> configs.Config:
        """The demo's config on this phantom, untracked, on the CPU."""
        fixed = ("experiment=demo", "data.name=bench", f"data.root={self.root}", "tracking=none", "device=cpu")
        return configs.compose([*fixed, f"runs={self.folder}", *words])

    def spec(self, size: int) -> DataSpec:
        """The dataset's form, with a size that the model sees."""
        spec: DataSpec = configs.build(self.config(f"data.size={size}"), "data")
        return spec

    @cached_property
    def train(self) -> list[Radiograph]:
        """Annotated images."""
        return train_images(self.spec(512))

    @cached_property
    def unseen(self) -> list[Radiograph]:
        """Images to predict."""
        return test_images(self.spec(512))

    def store(self, size: int) -> Store:
        """The training images at a size."""
        return open_store(self.train, self.spec(size), self.folder / "store")

    def train_masks(self, index: int) -> np.ndarray:
        """True masks bool `[C, H, W]` of a training image."""
        store = self.store(32)
        return np.stack([to_mask(cutout, store.shape(index)) for cutout in store.truth(index)])


def write_votes(material: Material, images: int) -> tuple[list[Path], Path]:
    """Three submissions and a truth of `images` images a file, the phantom's training masks moved and dilated."""
    names = [f"image{1661319116107 + number}.png" for number in range(images)]
    paths = [material.folder / f"vote-{material.size}-{images}-{voter}.csv" for voter in range(len(VOTERS))]
    truth = material.folder / f"truth-{material.size}-{images}.csv"
    if truth.exists():
        return paths, truth
    classes = material.spec(512).classes
    masks = [material.train_masks(index) for index in range(len(material.train))]
    for path, voter in zip(paths, VOTERS, strict=True):
        texts = [[rle.encode(_move(mask, *voter)) for mask in planes] for planes in masks]
        _write_csv(path, names, classes, texts, submission.COLUMNS)
    texts = [[rle.encode(mask) for mask in planes] for planes in masks]
    _write_csv(truth, names, classes, texts, (*submission.COLUMNS, submission.USAGE))
    return paths, truth


def _move(mask: np.ndarray, right: int, down: int, side: int) -> np.ndarray:
    dilated = cv2.dilate(mask.astype(np.uint8), np.ones((side, side), np.uint8))
    return np.roll(dilated, (down, right), axis=(0, 1)).astype(bool)


def _write_csv(path: Path, names: Sequence[str], classes: Sequence[str], texts: Sequence, columns: Sequence) -> None:
    with path.open("w", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(columns)
        for number, name in enumerate(names):
            usage = [("Public", "Private")[number % 2]] * (len(columns) - 3)
            table.writerows([name, label, text, *usage] for label, text in zip(classes, texts[number % len(texts)],
                                                                             strict=True))  # fmt: skip


def replicate(material: Material, split: str, images: int) -> Path:
    """A dataset of `images` train or test images: links to the phantom's under other names, the answers repeated."""
    root = material.folder / f"{split}-{material.size}-{images}"
    if root.is_dir():
        return root
    part = root.with_name(f"{root.name}.part")
    sources = material.train if split == "train" else material.unseen
    names = {}
    for number in range(images):
        source = sources[number % len(sources)]
        stem = f"image{1700000000000 + number}"
        names[f"{stem}.png"] = source.name
        patient = f"ID{number // 2 + 1:03d}"
        _link(part / split / "DCM" / patient / f"{stem}.png", source.path)
        if source.annotation:
            _link(part / split / "outputs_json" / patient / f"{stem}.json", source.annotation)
    if split == "test":
        _repeat_answer(material.root / "answer.csv", part / "answer.csv", names)
    part.rename(root)
    return root


def _link(path: Path, target: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(target.resolve())


def _repeat_answer(source: Path, target: Path, names: dict[str, str]) -> None:
    rows: dict[str, list[submission.Row]] = {}
    for row in submission.stream(source):
        rows.setdefault(row.image, []).append(row)
    with target.open("w", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow((*submission.COLUMNS, submission.USAGE))
        for name, original in names.items():
            table.writerows((name, row.label, row.rle, row.usage) for row in rows[original])


def grey(image: Radiograph, size: int) -> np.ndarray:
    """Grey bytes `[size, size]` of an image."""
    return resize_grey(read_grey(image.path), (size, size))
