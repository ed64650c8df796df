"""The organisers' way, as their public code does it: neither slower on purpose nor improved.

Masks are whole planes of the full image, probabilities are upsampled before the sigmoid, votes are taken on pixels.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import albumentations as A
import cv2
import numpy as np
import pandas as pd
import torch
from torch.nn import functional

SMOOTH = 1e-4


def read_sample(image_path: Path, json_path: Path, classes: Sequence[str], size: int) -> tuple:
    """An item of the training set: float32 tensors `[3, size, size]` and `[C, size, size]`."""
    image = cv2.imread(str(image_path)) / 255.0
    mask = read_mask(json_path, classes, image.shape[:2])
    result = A.Resize(size, size)(image=image, mask=mask)
    image, mask = result["image"].transpose(2, 0, 1), result["mask"].transpose(2, 0, 1)
    return torch.from_numpy(image).float(), torch.from_numpy(mask).float()


def read_mask(json_path: Path, classes: Sequence[str], shape: tuple[int, int]) -> np.ndarray:
    """Masks uint8 `[H, W, C]` of an annotation file."""
    index = {name: number for number, name in enumerate(classes)}
    mask = np.zeros((*shape, len(classes)), np.uint8)
    with json_path.open() as file:
        annotations = json.load(file)["annotations"]
    for annotation in annotations:
        plane = np.zeros(shape, np.uint8)
        cv2.fillPoly(plane, [np.array(annotation["points"])], 1)
        mask[..., index[annotation["label"]]] = plane
    return mask


def upsample(logits: torch.Tensor, size: int) -> torch.Tensor:
    """Probabilities `[N, C, size, size]` of logits at model resolution."""
    return torch.sigmoid(functional.interpolate(logits, (size, size), mode="bilinear"))


def validate(logits: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
    """Dice `[N, C]` of logits at model resolution and float32 masks `[N, C, H, W]`, which the loader keeps whole."""
    outputs = (upsample(logits, masks.shape[-1]) > 0.5).float()
    return dice_coef(outputs, masks)


def dice_coef(predicted: torch.Tensor, true: torch.Tensor) -> torch.Tensor:
    """Dice `[N, C]` of float masks `[N, C, H, W]`."""
    predicted, true = predicted.flatten(2), true.flatten(2)
    intersection = torch.sum(predicted * true, -1)
    return (2.0 * intersection + SMOOTH) / (torch.sum(predicted, -1) + torch.sum(true, -1) + SMOOTH)


def encode(mask: np.ndarray) -> str:
    """Text of a mask `[H, W]`: a zero joined to both ends widens the bytes to int64."""
    line = np.concatenate(([0], mask.flatten(), [0]))
    changes = np.where(line[1:] != line[:-1])[0] + 1
    changes[1::2] -= changes[::2]
    return " ".join(str(number) for number in changes)


def decode(text: str, size: int) -> np.ndarray:
    """Mask uint8 `[size, size]` of a text."""
    words = text.split()
    starts = np.asarray(words[0::2], dtype=int) - 1
    ends = starts + np.asarray(words[1::2], dtype=int)
    line = np.zeros(size * size, np.uint8)
    for start, end in zip(starts, ends, strict=True):
        line[start:end] = 1
    return line.reshape(size, size)


def predict(logits: torch.Tensor, size: int) -> list[str]:
    """Texts of the C masks of one image's logits `[1, C, h, w]`."""
    outputs = (upsample(logits, size) > 0.5).detach().cpu().numpy()
    return [encode(plane) for plane in outputs[0]]


def soft_vote(logits: Sequence[torch.Tensor], size: int) -> list[str]:
    """Texts of one image from every member's and view's logits `[1, C, h, w]`, averaged at full size."""
    total = sum(upsample(one, size) for one in logits) / len(logits)
    outputs = (total > 0.5).detach().cpu().numpy()
    return [encode(plane) for plane in outputs[0]]


def read_texts(paths: Sequence[Path]) -> list[list[str]]:
    """The column `rle` of several CSVs."""
    return [pd.read_csv(path)["rle"].fillna("").tolist() for path in paths]


def vote(texts: Sequence[str], size: int, min_votes: int) -> str:
    """One row of a hard vote: masks added up in a float64 plane, which the threshold turns into zeros and ones."""
    masks = [decode(text, size) for text in texts]
    votes = np.zeros((size, size))
    for mask in masks:
        votes += mask
    votes[votes < min_votes] = 0
    votes[votes >= min_votes] = 1
    return encode(votes)


def score(predicted: str, true: str, size: int) -> float:
    """Dice of one row's texts, on pixels."""
    a, b = decode(predicted, size), decode(true, size)
    return float((2.0 * (a * b).sum() + SMOOTH) / (a.sum() + b.sum() + SMOOTH))


def sweep_thresholds(probability: np.ndarray, truth: np.ndarray, thresholds: Sequence[float]) -> np.ndarray:
    """Dice at each threshold of one class's map `[H, W]` at full size."""
    scores = []
    for threshold in thresholds:
        mask = probability >= threshold
        scores.append((2.0 * (mask & truth).sum() + SMOOTH) / (mask.sum() + truth.sum() + SMOOTH))
    return np.array(scores)
