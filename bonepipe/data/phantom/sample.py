"""One hand from drawing lots to files on disk: the unit of work of the generator's processes."""

import json
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from bonepipe.data.phantom.annotation import Polygon, annotation_file, fill, plant, trace
from bonepipe.data.phantom.classes import CLASSES
from bonepipe.data.phantom.person import LEFT_STREAM, RIGHT_STREAM, draw_person, generator
from bonepipe.data.phantom.plan import Visit
from bonepipe.data.phantom.pose import draw_pose, place_hand
from bonepipe.data.phantom.render import render
from bonepipe.labels.rle import encode

# Fast compression: the noise of a radiograph does not compress anyway.
PNG_OPTIONS = (cv2.IMWRITE_PNG_COMPRESSION, 1)


@dataclass(frozen=True)
class Task:
    """Write the image of one hand (0 right, 1 left) of `visit` under the folder `root`."""

    root: Path
    visit: Visit
    hand: int
    size: int
    seed: int


@dataclass(frozen=True)
class Outcome:
    """What the tables need of a written image: planted (kind, classes), and (class, rle) rows of a test image."""

    image_name: str
    planted: tuple[str, tuple[str, ...]] | None
    answer: tuple[tuple[str, str], ...]


def draw_sample(visit: Visit, hand: int, size: int, seed: int) -> tuple[NDArray[np.uint8], dict[str, Polygon]]:
    """Draw the radiograph [size, size] and the polygon of each class; `hand` is 0 for right, 1 for left."""
    rng = generator(seed, visit.number, (RIGHT_STREAM, LEFT_STREAM)[hand])
    person = draw_person(seed, visit.number)
    placed = place_hand(person, draw_pose(bool(hand), visit.rotated, rng))
    polygons = trace(placed, size, rng)
    return render(placed, person, size, rng), polygons


def write_sample(task: Task) -> Outcome:
    """Draw one hand and write its PNG and, for a train patient, its annotation."""
    visit, stem = task.visit, task.visit.stems[task.hand]
    image, polygons = draw_sample(visit, task.hand, task.size, task.seed)
    split = task.root / ("test" if visit.test else "train")
    _write_png(split / "DCM" / visit.patient / f"{stem}.png", image)
    if visit.test:
        codes = {label: encode(fill([polygon], task.size)) for label, polygon in polygons.items()}
        return Outcome(f"{stem}.png", None, tuple((label, codes.get(label, "")) for label in CLASSES))
    planted = _write_annotation(split / "outputs_json" / visit.patient / f"{stem}.json", task, polygons)
    return Outcome(f"{stem}.png", planted, ())


def _write_png(path: Path, grey: NDArray[np.uint8]) -> None:
    """Write `grey` [S, S] as three equal channels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(".png", cv2.merge([grey, grey, grey]), PNG_OPTIONS)[1].tobytes())


def _write_annotation(path: Path, task: Task, polygons: dict[str, Polygon]) -> tuple[str, tuple[str, ...]] | None:
    """Write the annotation file, spoilt where the plan says so; returns the fault's kind and classes."""
    visit, kind = task.visit, task.visit.faults[task.hand]
    rng = np.random.default_rng([task.seed, visit.number, 4, task.hand])
    shapes, classes = plant(list(polygons.items()), kind, rng)
    path.parent.mkdir(parents=True, exist_ok=True)
    document = annotation_file(shapes, visit.patient, visit.stems[task.hand], rng)
    path.write_text(json.dumps(document, separators=(",", ":")), encoding="utf-8")
    return (kind, classes) if kind else None
