"""Label errors as a page: the candidates with their pictures, all of them as a table, and what to do about them."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from bonepipe.inference.label_errors import LabelError, suggestion
from bonepipe.report.page import Gallery, Page, Picture, Section, Table, Text, picture

COLUMNS = ("rank", "image", "patient", "classes", "kind", "score", "suggestion", "remark")
ROWS = 500  # candidates in the table
WIDEST = 1700  # pixels of a picture
SUGGESTIONS = {
    "permute": "exchange the labels",
    "replace": "take the predicted mask",
    "drop": "leave the class out",
    "look": "look first",
}
KINDS = {
    "permuted": "permuted: the outlines are right, their labels are not",
    "missing": "missing: a bone that is plain to see is not drawn, or only a part of it",
    "extra": "extra: something is drawn that belongs to no bone, or an outline lies inside another",
    "low": "low: the Dice is far below what is usual for the class, and nothing tells why",
}


def page(
    folder: Path,
    ranked: Sequence[LabelError],
    strips: Sequence[np.ndarray],
    classes: Sequence[str],
    patients: Mapping[str, str],
    corrections: tuple[Path, int],
    told: Sequence[str] = (),
    warning: str | None = None,
) -> Page:
    """The page of a run.

    Args:
        folder: of the run.
        ranked: all candidates, the most suspicious first.
        strips: pictures RGB uint8 of the first of them.
        classes: names.
        patients: image name -> patient.
        corrections: the file with the suggested corrections, and its rows.
        told: how many of the annotations that are known to be wrong were found.
        warning: that the model is too weak to judge.
    """
    sure = sum(suggestion(candidate) != "look" for candidate in ranked)
    facts = [("candidates", f"{len(ranked)}"), ("images", f"{len({candidate.name for candidate in ranked})}")]
    facts += [
        ("with a correction", f"{sure}"),
        *((kind, f"{n}") for kind, n in Counter(c.kind for c in ranked).items()),
    ]
    lead = (
        "Annotations that look wrong to models that never saw them. A candidate is no verdict: models err where bones "
        "are hard to see, so look before you accept."
    )
    sections = [_doing(folder, corrections, told, warning)]
    if ranked:
        shown = [_picture(*pair, classes) for pair in zip(ranked, strips, strict=False)]
        sections = [_pictures(shown, len(ranked)), _table(ranked, classes, patients), *sections]
    return Page(f"Label errors: {folder.resolve().name}", lead, sections, facts)


def _pictures(shown: Sequence[Picture], count: int) -> Section:
    says = "Where the annotation's mask and the prediction's differ, compare both with the bone in the second panel."
    legend = "From left: the image with a frame about the place, the place, the annotation, the prediction out of fold."
    title = f"The first {len(shown)} of {count}" if len(shown) < count else "All candidates"
    return Section("Candidates", says, [Gallery(title, legend, shown, least=640, wide=True)])


def _picture(candidate: LabelError, strip: np.ndarray, classes: Sequence[str]) -> Picture:
    labels = ", ".join(classes[label] for label in candidate.classes)
    reason = candidate.remark if candidate.moved else f"{labels}: {candidate.remark}"
    todo = f"Suggested: {SUGGESTIONS[suggestion(candidate)]}"
    return picture(strip, f"{candidate.kind} {candidate.score:.2f}: {reason}. {todo}.", WIDEST)


def _table(ranked: Sequence[LabelError], classes: Sequence[str], patients: Mapping[str, str]) -> Section:
    rows = [
        (
            rank, item.name, patients.get(item.name, ""), ", ".join(classes[label] for label in item.classes),
            item.kind, float(item.score), suggestion(item), item.remark,
        )
        for rank, item in enumerate(ranked[:ROWS], 1)
    ]  # fmt: skip
    says = (
        "The score is 1 where the reason leaves no doubt. An image or a patient that comes again and again was perhaps "
        "annotated by somebody who read the guide differently."
    )
    title = "All candidates" if len(ranked) <= ROWS else f"The first {ROWS}; label_errors.csv has them all"
    return Section("Ranking", says, [Table(title, "A click on a column's head sorts.", COLUMNS, rows, 2, wide=True)])


def _doing(folder: Path, corrections: tuple[Path, int], told: Sequence[str], warning: str | None) -> Section:
    path, rows = corrections
    steps = [
        f"bonepipe view {folder}: steps through the candidates (key l), accepts (a) or rejects (x) them",
        f"{path}: {rows} rows are suggested; edit them in any editor or spreadsheet",
        f"make all-folds ARGS='name={folder.resolve().name}-mended data.corrections={path}': trains with them",
    ]
    parts = [
        Text("What to do", "Training alone changes; scores keep to the annotations as they are.", steps, wide=True)
    ]
    parts += [Text("What the kinds mean", "", list(KINDS.values()))]
    if told:
        parts.append(Text("Known errors", "The dataset lists annotations that are wrong on purpose.", list(told)))
    if warning:
        parts.insert(0, Text("The model is weak", "", [warning], "warning", wide=True))
    return Section("Next", "Look, decide, train again under another name, and compare.", parts)
