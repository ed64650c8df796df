"""Plain readers of run-length texts and tables, slow and obvious: what the fast ones are compared with."""

import re
from collections.abc import Mapping, Sequence

LARGEST = 1 << 30  # pixels
Runs = list[tuple[int, int]]
SMOOTH = 1e-4


def runs(text: str) -> Runs | None:
    """The runs of a text, None where it is none: pairs of start and length, rising, that do not overlap."""
    if not text.strip():
        return []
    words = [word for word in re.split(r"[ \t\n\v\f\r]+", text) if word]
    if len(words) % 2 or not all(re.fullmatch(r"-?[0-9]+", word) for word in words):
        return None
    if any(len(word) > 4000 for word in words):  # Python reads no more digits
        return None
    numbers = [int(word) for word in words]
    result, end = [], 1
    for start, length in zip(numbers[::2], numbers[1::2], strict=True):
        if start < end or length < 1:
            return None
        end = start + length
        result.append((start, length))
    return result if end - 1 <= LARGEST else None


def pixels(pairs: Runs) -> set[int]:
    """The pixels of runs, counted from 1."""
    return {pixel for start, length in pairs for pixel in range(start, start + length)}


def text_of(inside: set[int]) -> str:
    """The runs of pixels as text."""
    words: list[int] = []
    for pixel in sorted(inside):
        if words and words[-2] + words[-1] == pixel:
            words[-1] += 1
        else:
            words += [pixel, 1]
    return " ".join(map(str, words))


def table(content: bytes, columns: Sequence[str]) -> list[dict[str, str]] | None:
    """The rows of a CSV that is plain: these columns in this order, no quotes, blanks or lines of other lengths.

    None where it is not plain, whatever that means for whoever reads it.
    """
    if re.search(rb"[^\w.,: \n-]", content) or not content.endswith(b"\n"):
        return None
    header, *lines = content.decode().removesuffix("\n").split("\n")
    fields = [line.split(",") for line in lines]
    if header != ",".join(columns) or any(len(row) != len(columns) or not any(map(str.strip, row)) for row in fields):
        return None
    return [dict(zip(columns, row, strict=True)) for row in fields]


def dice(a: set[int], b: set[int]) -> float:
    """The metric of two masks."""
    return (2 * len(a & b) + SMOOTH) / (len(a) + len(b) + SMOOTH)


def is_submission(rows: Sequence[Mapping[str, str]], images: Sequence[str], classes: Sequence[str], size: int) -> bool:
    """Whether rows are those of a test set in their order, with masks inside an image of so many pixels."""
    if [(row["image_name"], row["class"]) for row in rows] != [(image, label) for image in images for label in classes]:
        return False
    masks = [runs(row["rle"]) for row in rows]
    return all(mask is not None and (not mask or sum(mask[-1]) - 1 <= size) for mask in masks)


def is_split(rows: Sequence[Mapping[str, str]], patients: Mapping[str, str], count: int) -> bool:
    """Whether rows name each image once, in a fold that has some, and each patient in one fold."""
    names = [row["image_name"] for row in rows]
    folds = {row["fold"] for row in rows}
    if sorted(names) != sorted(patients) or folds != {str(number) for number in range(count)}:
        return False
    return len({(patients[row["image_name"]], row["fold"]) for row in rows}) == len(set(patients.values()))
