"""How near a dataset comes to the real one: figures of its masks and images beside those of the competition's data.

`python -m tests.benchmarks.phantom_statistics ROOT` prints the table.
"""

import sys
from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from bonepipe.data.annotation import read_annotation
from bonepipe.data.image import read_shape
from bonepipe.data.phantom.classes import CLASSES
from bonepipe.files import read_csv
from bonepipe.labels import bitplane
from bonepipe.labels.cutout import bounds
from bonepipe.labels.polygon import rasterise

REAL_SIZE = 2048

# The competition's data at 2048 x 2048.
REAL = {
    "Triquetrum-Pisiform IoU": 0.45,
    "Trapezium-Trapezoid IoU": 0.19,
    "pixels with two labels": 0.0041,
    "foreground": 0.12,
    "mean class box": 0.0088,
    "runs a class at 2048": 219.0,
    "image mean": 0.12,
    "rotated wrists, train": 0.1175,
    "rotated wrists, test": 0.576,
}


def measure(root: Path) -> dict[str, float]:
    """Measure the figures of `REAL` at `root`; shares are of the pixels, of full scale or of the patients."""
    annotations = sorted((root / "train" / "outputs_json").glob("*/*.json"))
    sides = (read_shape(root / "train" / "DCM" / path.parent.name / f"{path.stem}.png")[0] for path in annotations)
    rows = [image_statistics(masks(path, side)) for path, side in zip(annotations, sides, strict=True)]
    figures = {name: float(np.nanmean([row[name] for row in rows])) for name in rows[0]}
    pictures = (cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) for path in sorted(root.glob("*/DCM/*/*.png")))
    figures["image mean"] = float(np.mean([picture.mean() / 255 for picture in pictures if picture is not None]))
    return figures | _rotated_shares(root)


def masks(annotation: Path, size: int) -> NDArray[np.bool_]:
    """Ground truth [29, size, size] of one annotation file."""
    planes = rasterise(read_annotation(annotation, CLASSES), (size, size), len(CLASSES))
    return np.moveaxis(bitplane.unpack(planes, len(CLASSES)), -1, 0)


def image_statistics(mask: NDArray[np.bool_]) -> dict[str, float]:
    """Figures of one image's masks [29, S, S]."""
    size = mask.shape[-1]
    count = mask.sum(axis=0, dtype=np.uint8)
    boxes = [bounds(plane) for plane in mask if plane.any()]
    starts = [(np.diff(plane.ravel().astype(np.int8), prepend=0) == 1).sum() for plane in mask]
    return {
        "Triquetrum-Pisiform IoU": _iou(mask, "Triquetrum", "Pisiform"),
        "Trapezium-Trapezoid IoU": _iou(mask, "Trapezium", "Trapezoid"),
        "pixels with two labels": float((count > 1).mean()),
        "foreground": float((count > 0).mean()),
        "mean class box": float(np.mean([box.height * box.width for box in boxes])) / size**2,
        "runs a class at 2048": float(np.mean(starts)) * REAL_SIZE / size,
    }


def _iou(mask: NDArray[np.bool_], first: str, second: str) -> float:
    """Intersection over union of two classes; NaN where one was not drawn."""
    a, b = mask[CLASSES.index(first)], mask[CLASSES.index(second)]
    return float((a & b).sum() / (a | b).sum()) if a.any() and b.any() else float("nan")


def _rotated_shares(root: Path) -> dict[str, float]:
    """Share of the patients with the wrist bent sideways; NaN for a split without patients."""
    rotated = {row["patient"] for _, row in read_csv(root / "rotated.csv", ["patient"])}
    shares = {}
    for split in ("train", "test"):
        patients = [folder.name for folder in (root / split / "DCM").glob("*")]
        bent = sum(patient in rotated for patient in patients)
        shares[f"rotated wrists, {split}"] = bent / len(patients) if patients else float("nan")
    return shares


def table(figures: dict[str, float]) -> str:
    """Set the figures beside the real ones, a line each."""
    lines = [f"{'':<26}{'phantom':>10}{'real':>10}{'ratio':>8}"]
    for name, real in REAL.items():
        lines.append(f"{name:<26}{_show(figures[name])}{_show(real)}{figures[name] / real:>8.2f}")
    return "\n".join(lines)


def _show(value: float) -> str:
    return f"{value:>10.1f}" if value >= 1.5 else f"{value:>10.4f}"


def main(arguments: Iterable[str]) -> None:
    """Print the table for each dataset root named."""
    for root in arguments:
        print(f"{root}\n{table(measure(Path(root)))}")


if __name__ == "__main__":
    main(sys.argv[1:])
