"""nnU-Net v2 as a peer: in a virtual environment of its own, with plain labels, planned by itself.

It gets the images at the size that every system works at, and one label a pixel (the smaller class on top where classes
overlap). Its probabilities are resampled to the image's own size.
"""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from bonepipe.data import submission
from bonepipe.data.annotation import read_annotation
from bonepipe.data.image import read_grey
from bonepipe.errors import BonepipeError
from bonepipe.files import write_csv, write_json
from bonepipe.labels.rle import decode, encode

from .place import Job, Place, Speed, call, slug

VERSION = "2.8.1"
DATASET = "Dataset001_versus"


def environment(cache: Path) -> Path:
    """The Python of nnU-Net's environment, made from the registry when first asked for."""
    python, uv = cache / "bin" / "python", str(Path(sys.executable).with_name("uv"))  # `make setup` installs it
    if not python.is_file():
        install = [uv, "pip", "install", "--python", str(python), f"nnunetv2=={VERSION}"]
        for command in ([uv, "venv", str(cache)], install):
            if subprocess.run(command, check=False).returncode:
                raise BonepipeError(f"{' '.join(command)} failed; nnU-Net is compared only where it can be installed")
    return python


def speeds(place: Place, system: str, images: int) -> dict[str, Speed]:
    """How fast nnU-Net is, mirrored or not, measured with a short training that must run alone."""
    told = _train(place, place.folder / f"speed-{slug(system)}", system, images, 0)
    return {system: Speed(told["images_per_second"], told["prediction"] / len(place.set.images("test")))}


def run(place: Place, job: Job) -> Iterator[dict[str, Any]]:
    """Train nnU-Net and score its masks."""
    folder = place.folder / f"{slug(job.system)}-{job.minutes:g}-{job.seed}"
    start = time.perf_counter()
    told = _train(place, folder, job.system, round(60 * job.minutes * place.paces[job.system]), job.seed)
    seconds = time.perf_counter() - start
    write_masks(place, folder / "probabilities", folder / "answer.csv")
    dice, best = place.score(folder / "answer.csv"), perfect(place, folder / "perfect.csv")
    yield {"system": job.system, "images": int(told["images"]), "dice": dice, "seconds": seconds}
    yield {"system": "plain labels, perfect", "images": 0, "dice": best, "seconds": 0}


def _train(place: Place, folder: Path, system: str, images: int, seed: int) -> dict[str, float]:
    """Train on so many images, write the test images' probabilities, and give what nnunet_runner.py tells of it."""
    python = environment(place.folder.parent.parent / "nnunet")
    write_dataset(place, folder / "raw" / DATASET)
    settings = {f"nnUNet_{name}": str(folder / name) for name in ("raw", "preprocessed", "results")}
    words = [str(folder), str(images), str(seed), *(["--mirror"] if "mirrored" in system else [])]
    runner = str(Path(__file__).parent / "nnunet_runner.py")
    printed = call([str(python), runner, *words], folder / "log.txt", settings)
    told: dict[str, float] = json.loads(printed.splitlines()[-1])
    return told


def write_dataset(place: Place, out: Path) -> None:
    """Write a set in nnU-Net's raw layout, labels one a pixel."""
    for name in ("imagesTr", "labelsTr", "imagesTs"):
        (out / name).mkdir(parents=True, exist_ok=True)
    height, width = place.set.size
    for split, paths in (("Tr", place.training), ("Ts", place.set.images("test"))):
        for path in paths:
            grey = read_grey(path)
            small = cv2.resize(grey, (width, height), interpolation=cv2.INTER_AREA)
            cv2.imwrite(str(out / f"images{split}" / f"{path.stem}_0000.png"), small)
            if split == "Tr":
                label = cv2.resize(
                    plain_labels(path, place.set.classes, grey.shape), (width, height), interpolation=cv2.INTER_NEAREST
                )
                cv2.imwrite(str(out / "labelsTr" / f"{path.stem}.png"), label)
    labels = {"background": 0, **{name: number for number, name in enumerate(place.set.classes, 1)}}
    about = {
        "channel_names": {"0": "radiograph"},
        "labels": labels,
        "numTraining": len(place.training),
        "file_ending": ".png",
    }
    write_json(out / "dataset.json", about)


def plain_labels(path: Path, classes: tuple[str, ...], shape: tuple[int, ...]) -> np.ndarray:
    """One label a pixel, uint8 `[H, W]`: 0 or a class's number from 1."""
    file = Path(str(path).replace("/DCM/", "/outputs_json/")).with_suffix(".json")
    masks = np.zeros((len(classes), *shape), np.uint8)
    for number, points in read_annotation(file, classes):
        cv2.fillPoly(masks[number], [points], 1)
    return flattened(masks)


def flattened(masks: np.ndarray) -> np.ndarray:
    """Masks `[C, H, W]` as one label a pixel: where classes overlap, the one with the smallest area in the image."""
    label = np.zeros(masks.shape[1:], np.uint8)
    for number in np.argsort(-masks.sum((1, 2), dtype=np.int64), kind="stable"):
        label[masks[number] > 0] = number + 1
    return label


def perfect(place: Place, out: Path) -> float:
    """Test Dice of the truth itself with one label a pixel: what no plain labels can exceed."""
    truth = submission.read(place.set.root / "answer.csv")
    codes = {row.key: row.rle for row in truth.rows}
    sizes = {path.name: read_grey(path).shape for path in place.set.images("test")}
    rows = []
    for name, shape in sizes.items():
        masks = [decode(codes[name, label], shape) for label in place.set.classes]
        label = flattened(np.stack(masks).astype(np.uint8))
        rows += [(name, known, encode(label == number)) for number, known in enumerate(place.set.classes, 1)]
    write_csv(out, ("image_name", "class", "rle"), rows)
    return place.score(out)


def write_masks(place: Place, probabilities: Path, out: Path) -> None:
    """Masks of the most probable class a pixel, at the images' own sizes."""
    rows = []
    for path in place.set.images("test"):
        height, width = read_grey(path).shape
        maps = np.load(probabilities / f"{path.stem}.npy").astype(np.float32)
        best, label = np.full((height, width), -1.0, np.float32), np.zeros((height, width), np.uint8)
        for number, small in enumerate(maps):
            large = cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)
            label[large > best], best = number, np.maximum(large, best)
        rows += [(path.name, known, encode(label == number)) for number, known in enumerate(place.set.classes, 1)]
    write_csv(out, ("image_name", "class", "rle"), rows)
