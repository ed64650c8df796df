"""Run-length texts, and the tables that hold them: submissions, pseudo-labels, corrections."""

from collections.abc import Callable
from pathlib import Path
from random import Random

import numpy as np
from hypothesis import strategies as st

from bonepipe.data import corrections, masks, pseudo, submission
from bonepipe.errors import BonepipeError
from bonepipe.labels import bitplane, rle
from bonepipe.pipeline.vote import elect, lockstep

from . import mutate, plain
from .engine import Target

SIDE = 16  # pixels
IMAGES, CLASSES = ("a.png", "b.png"), ("Ulna", "Radius", "Capitate")
MOST = 5000  # pixels of a table's masks that are worth a comparison
Table = list[list[str]]

# Gaps and lengths, so that most texts are valid; some begin near the largest pixel.
codes = st.builds(
    lambda begin, pairs: _words(begin, pairs), st.sampled_from((0, 0, 0, 0, plain.LARGEST - 60)),
    st.lists(st.tuples(st.integers(0, 20), st.integers(1, 12)), max_size=6),
)  # fmt: skip
inside = st.lists(st.tuples(st.integers(0, 40), st.integers(1, 12)), max_size=4).map(
    lambda pairs: " ".join(_words(0, pairs))
)


def _words(begin: int, pairs: list[tuple[int, int]]) -> list[str]:
    words, end = [], begin + 1
    for gap, length in pairs:
        words += [str(end + gap), str(length)]
        end += gap + length
    return words


def render(table: Table) -> bytes:
    """A CSV, its fields as they are, which may break it."""
    return "".join(",".join(row) + "\n" for row in table).encode()


def table_of(columns: tuple[str, ...], *further: st.SearchStrategy[str]) -> st.SearchStrategy[Table]:
    """A row an image and class, with these further fields."""
    keys = [(image, label) for image in IMAGES for label in CLASSES]
    rows = st.tuples(*(st.tuples(*further) for _ in keys))
    return rows.map(lambda cells: [[*columns], *([*key, *cell] for key, cell in zip(keys, cells, strict=True))])


def check_code(_: Path, content: bytes) -> None:
    """A run-length text: both parsers, decoding and encoding."""
    text = content.decode("utf-8", "replace")
    expected = plain.runs(text)
    try:
        runs = rle.parse(text)
    except ValueError:
        assert expected is None, "refused, and is a mask"
        raise
    assert expected is not None, "taken, and is none"
    assert runs.tolist() == [list(run) for run in expected], "other runs"
    assert (rle.parse_stack([text]) == runs).all(), "other runs in a stack"
    if expected and sum(expected[-1]) - 1 <= SIDE * SIDE:
        mask = rle.decode(text, (SIDE, SIDE))
        assert set((np.flatnonzero(mask) + 1).tolist()) == plain.pixels(expected), "other pixels"
        assert rle.encode(mask) == plain.text_of(plain.pixels(expected)), "another text"


def code_target(_: Path) -> list[Target]:
    """Run-length texts."""
    separators = (" ", " ", " ", "  ", "\t", "\n", "\u00a0", "\0")
    documents = st.tuples(codes, st.sampled_from(separators))
    change: Callable[[Random, tuple[list[str], str]], tuple[list[str], str]] = lambda rng, document: (  # noqa: E731
        mutate.words(rng, document[0]),
        rng.choice(separators),
    )
    return [
        Target(
            "run-length codes", documents, lambda document: document[1].join(document[0]).encode(), change, check_code,
            file="", compared="a plain parser, pixel by pixel", typed=(ValueError,),
        )
    ]  # fmt: skip


def first_refusal(*steps: Callable[[], object]) -> None:
    """Take all steps, and raise the first BonepipeError of any."""
    refusals = []
    for step in steps:
        try:
            step()
        except BonepipeError as error:
            refusals.append(error)
    if refusals:
        raise refusals[0]


def check_submission(path: Path, content: bytes) -> None:
    """A submission: as `check`, `score` and `vote` read it."""
    rows = plain.table(content, submission.COLUMNS)
    table = submission.read(path)
    faults = submission.faults(table, dict.fromkeys(IMAGES, (SIDE, SIDE)), CLASSES)
    if rows is not None:
        assert plain.is_submission(rows, IMAGES, CLASSES, SIDE * SIDE) == (not faults), "another verdict"
    first_refusal(lambda: _score(path, table), lambda: _vote(path))
    assert faults or rows is None or len(rows) == len(IMAGES) * len(CLASSES)


def _score(path: Path, table: submission.Table) -> None:
    truth = submission.read(path.parent.parent / "truth.csv")
    scores = submission.score_tables(table, truth)
    if (found := _pixels(table)) and (true := _pixels(truth)):
        expected = [plain.dice(found[key], true[key]) for key in true]
        assert abs(scores["dice"] - sum(expected) / len(expected)) < 1e-9, "another Dice"


def _pixels(table: submission.Table) -> dict[submission.Key, set[int]] | None:
    runs = {row.key: plain.runs(row.rle) for row in table.rows}
    if any(mask is None or (mask and sum(mask[-1]) > MOST) for mask in runs.values()):
        return None
    return {key: plain.pixels(mask or []) for key, mask in runs.items()}


def _vote(path: Path) -> None:
    paths = [path, *(path.parent.parent / name for name in ("truth.csv", "other.csv"))]
    elected = path.with_name("elected.csv")
    submission.write(elected, elect(paths, lockstep(paths), rle.majority([1.0] * 3), [1.0] * 3))
    voters = [_pixels(submission.read(file)) for file in paths]
    for row in submission.read(elected).rows if all(voters) else ():
        one, two, three = (voter[row.key] for voter in voters if voter)
        assert row.rle == plain.text_of((one & two) | (one & three) | (two & three)), "another majority"


def submission_target(folder: Path) -> list[Target]:
    """Submissions, of which two further ones lie beside the folder."""
    for number, name in enumerate(("truth.csv", "other.csv")):
        texts = [f"{1 + number * 3} 40 {90 + 10 * k} {5 + k}" for k in range(len(IMAGES) * len(CLASSES))]
        keys = [(image, label) for image in IMAGES for label in CLASSES]
        rows = [[*submission.COLUMNS], *([*key, text] for key, text in zip(keys, texts, strict=True))]
        (folder.parent / name).write_bytes(render(rows))
    documents = table_of(submission.COLUMNS, inside)
    about = "a plain reader, masks as sets of pixels"
    return [Target("submissions", documents, render, mutate.rows, check_submission, "mine.csv", about)]


def check_pseudo(path: Path, content: bytes) -> None:
    """A table of pseudo-labels, and its masks as planes."""
    labels = pseudo.read(path, CLASSES)
    for label in labels.values():
        assert len(label.sure) == len(label.ambiguous) == len(CLASSES)
        shape, planes = (SIDE, SIDE), np.zeros((SIDE, SIDE, 1), np.uint8)
        for found, texts in ((label.apply(planes), label.sure), (label.ignored_planes(shape), label.ambiguous)):
            drawn = bitplane.unpack(found, len(CLASSES)).reshape(-1, len(CLASSES)).T
            true = [plain.pixels(plain.runs(text) or []) for text in texts]
            assert [set((np.flatnonzero(plane) + 1).tolist()) for plane in drawn] == true, "other pixels"
    masks.read_masks(path, [*labels], CLASSES)


def pseudo_target(_: Path) -> list[Target]:
    """Pseudo-labels."""
    documents = table_of(pseudo.COLUMNS, inside, inside)
    about = "masks as sets of pixels"
    return [Target("pseudo-labels", documents, render, mutate.rows, check_pseudo, "pseudo.csv", about)]


def check_corrections(path: Path, content: bytes) -> None:
    """A table of corrections, carried out."""
    for name, correction in corrections.read(path, CLASSES, IMAGES).items():
        assert name in IMAGES
        assert sorted(correction.order()) == list(range(len(CLASSES))), "no permutation"
        planes = np.full((SIDE, SIDE, 1), 0b101, np.uint8)
        mended = bitplane.unpack(correction.apply(planes), len(CLASSES)).reshape(-1, len(CLASSES)).T
        before = [True, False, True]
        for index, plane in enumerate(mended):
            everything = set(range(1, SIDE * SIDE + 1)) if before[correction.order()[index]] else set()
            text = correction.replaced.get(index)
            expected = everything if text is None else plain.pixels(plain.runs(text) or [])
            assert set((np.flatnonzero(plane) + 1).tolist()) == expected, "other pixels"
        correction.ignored_planes((SIDE, SIDE))


def corrections_target(_: Path) -> list[Target]:
    """Corrections."""
    rows = st.one_of(
        st.tuples(st.sampled_from(IMAGES), st.just(""), st.just("drop"), st.just("")),
        st.tuples(st.sampled_from(IMAGES), st.sampled_from(CLASSES), st.just("drop"), st.just("")),
        st.tuples(st.sampled_from(IMAGES), st.sampled_from(CLASSES), st.just("replace"), inside),
        st.tuples(st.sampled_from(IMAGES), st.sampled_from(CLASSES), st.just("permute"), st.sampled_from(CLASSES)),
    )
    turned = st.permutations(CLASSES).map(
        lambda goal: [["a.png", a, "permute", b] for a, b in zip(CLASSES, goal, strict=True)]
    )
    documents = st.tuples(turned | st.just([]), st.lists(rows.map(list), max_size=4)).map(
        lambda parts: [[*corrections.COLUMNS], *parts[0], *parts[1]]
    )
    about = "pixels drawn one by one"
    return [Target("corrections", documents, render, mutate.rows, check_corrections, "mended.csv", about)]
