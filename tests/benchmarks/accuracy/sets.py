"""The four sets: each a folder in the competition's layout, and the settings that describe it.

Two are composed of the phantom's hands. `pairs` shows both hands of a patient in one wide image, with classes of
their own left and right: a mirrored image shows every class where the other hand's was. `odd` has few patients, images
that are not square and store 16 bits in windows of their own, and a screw that one patient in four carries.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from bonepipe.data.annotation import document
from bonepipe.data.phantom.classes import CLASSES
from bonepipe.data.phantom.dataset import write_dataset
from bonepipe.data.phantom.plan import Visit, make_plan
from bonepipe.data.phantom.sample import draw_sample
from bonepipe.files import find_files, write_csv, write_json
from bonepipe.labels.rle import encode

Polygons = list[tuple[str, np.ndarray]]  # label, int points [K, 2] as x, y
Picture = tuple[str, np.ndarray, Polygons]  # image's stem, its pixels [H, W], its outlines

SIDES = ("Right", "Left")
SCREW = "Screw"
HAND = 512  # pixels a side of the hands that the composed sets are made of


@dataclass(frozen=True)
class Set:
    """A set for comparison.

    Attributes:
        name: of the set, as the table has it.
        root: its folder.
        size: height and width in pixels that every system works at.
        data: settings of this pipeline that describe it: overrides, without `data.root`, `data.name` and `data.size`.
        classes: in the order of the submission.
    """

    name: str
    root: Path
    size: tuple[int, int]
    data: tuple[str, ...]
    classes: tuple[str, ...]

    @property
    def words(self) -> list[str]:
        """Overrides that describe the set to this pipeline."""
        height, width = self.size
        return [*self.data, f"data.root={self.root}", f"data.name=versus-{self.name}", f"data.size=[{height},{width}]"]

    def images(self, split: str) -> list[Path]:
        """Its images of `train` or `test`, in sorted path order."""
        return sorted(find_files(self.root / split / "DCM", (".png",)))


def phantom(folder: Path) -> Set:
    """The demo's phantom: 50 train and 24 test patients, 1024 pixels."""
    root = folder / "phantom"
    if not root.is_dir():
        write_dataset(root, 50, 24, 1024, seed=0)
    return Set("phantom", root, (160, 160), ("data=hand",), CLASSES)


CHEST = ("Left Lung", "Right Lung", "Cardiomediastinum", "Airways", "Ground Glass Opacities")


def chest44(root: Path) -> Set:
    """Real radiographs: 31 chests to train on, 13 to test, of mixed sizes; classes overlap."""
    return Set("chest44", root, (160, 160), ("data=chest",), CHEST)


PAIRED = tuple(f"{side} {label}" for side in SIDES for label in CLASSES)


def pairs(folder: Path) -> Set:
    """Both hands of a patient in one image of 512 x 1024 pixels, 58 classes: 40 train and 20 test patients."""
    root = folder / "pairs"
    if not root.is_dir():
        _write(root, 40, 20, _pair, PAIRED)
    swaps = json.dumps([[f"{side} {label}" for side in SIDES] for label in CLASSES])
    data = (*_described(PAIRED), f"+data.swaps.horizontal={swaps}")
    return Set("pairs", root, (128, 256), data, PAIRED)


ODD = (*CLASSES, SCREW)


def odd(folder: Path) -> Set:
    """Few patients, images of many shapes and 16 bits, one rare class: 12 train and 16 test patients."""
    root = folder / "odd"
    if not root.is_dir():
        _write(root, 12, 16, _oddities, ODD)
    return Set("odd", root, (160, 160), _described(ODD), ODD)


def _described(classes: tuple[str, ...]) -> tuple[str, ...]:
    palette = [[37 * number % 256, 91 * number % 256, 153 * number % 256] for number in range(1, len(classes) + 1)]
    return (
        "data=hand", f"data.classes={json.dumps(classes)}", f"data.palette={json.dumps(palette)}", "data.closeup=[]",
        "data.strata=[]", "data.metadata=null",
    )  # fmt: skip


def _pair(visit: Visit) -> Iterator[Picture]:
    """One picture, the right hand in its left half."""
    image, polygons = np.zeros((HAND, 2 * HAND), np.uint8), []
    for hand, side in enumerate(SIDES):
        pixels, outlines = draw_sample(visit, hand, HAND, seed=1)
        image[:, hand * HAND : (hand + 1) * HAND] = pixels
        polygons += [(f"{side} {label}", outline + np.array((hand * HAND, 0))) for label, outline in outlines.items()]
    yield f"pair{visit.number:03d}", image, polygons


def _oddities(visit: Visit) -> Iterator[Picture]:
    """Each hand cropped to its bones with margins of its own, in 16 bits, one patient in four with a screw."""
    rng = np.random.default_rng([visit.number, 7])
    for hand in range(2):
        pixels, outlines = draw_sample(visit, hand, HAND, seed=2)
        polygons = list(outlines.items())
        if visit.number % 4 == 0:
            polygons.append((SCREW, _screw(pixels, outlines["Radius"], rng)))
        low, high = np.concatenate([outline for _, outline in polygons]).min(0), _far_corner(polygons)
        x, y = (int(rng.uniform(0, edge + 1)) for edge in low)
        right, bottom = (int(rng.uniform(edge, HAND)) + 1 for edge in high)
        black, span = rng.uniform(0, 3_000), rng.uniform(15_000, 60_000)
        grey = np.rint(black + span / 255.0 * pixels[y:bottom, x:right]).astype(np.uint16)
        yield f"odd{visit.number:03d}{'RL'[hand]}", grey, [(label, outline - [x, y]) for label, outline in polygons]


def _far_corner(polygons: Polygons) -> np.ndarray:
    return np.minimum(np.concatenate([outline for _, outline in polygons]).max(0), HAND - 1)


def _screw(pixels: np.ndarray, radius: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw a bright bar across the bone `radius`; returns its outline."""
    centre = radius.mean(0) + rng.uniform(-6, 6, 2)
    box = ((float(centre[0]), float(centre[1])), (float(rng.uniform(40, 60)), 8.0), float(rng.uniform(0, 180)))
    outline = np.clip(np.rint(cv2.boxPoints(box)), 0, HAND - 1).astype(np.int32)
    cv2.fillPoly(pixels, [outline], 250)
    return outline


def _write(
    root: Path, patients: int, test_patients: int, draw: Callable[[Visit], Iterator[Picture]], classes: tuple[str, ...]
) -> None:
    """Write a set whose images `draw` makes of a patient."""
    answer = []
    for visit in make_plan(patients, test_patients, seed=0, planted=0).visits:
        for stem, image, polygons in draw(visit):
            split = "test" if visit.test else "train"
            path = root / split / "DCM" / visit.patient / f"{stem}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), image)
            if visit.test:
                masks = _masks(polygons, image.shape[:2])
                answer += [(path.name, label, masks.get(label, ""), visit.usage) for label in classes]
                continue
            entries = [(f"{number:024x}", *polygon) for number, polygon in enumerate(polygons)]
            file = root / "train" / "outputs_json" / visit.patient / f"{stem}.json"
            file.parent.mkdir(parents=True, exist_ok=True)
            write_json(file, document(entries, path.name, visit.patient, image.shape[:2], ""), indent=None)
    write_csv(root / "answer.csv", ("image_name", "class", "rle", "Usage"), answer)  # written last: the set is whole


def _masks(polygons: Polygons, shape: Any) -> dict[str, str]:
    masks = {}
    for label, outline in polygons:
        mask = np.zeros(shape, np.uint8)
        cv2.fillPoly(mask, [outline.astype(np.int32)], 1)
        masks[label] = encode(mask.astype(bool))
    return masks


def all_sets(folder: Path, real: Path | None) -> list[Set]:
    """All sets, made in `folder` where they are missing; chest44 where its folder is given and there."""
    chest = [chest44(real)] if real is not None and real.is_dir() else []
    return [phantom(folder), *chest, pairs(folder), odd(folder)]
