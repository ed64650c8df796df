"""Candidates for wrong annotations, and the file of corrections in which people accept or reject them.

The candidates are what `bonepipe label-errors` ranked. Whoever looks at one says what is to be done: one of the actions
of `bonepipe.data.corrections`, `drop-image`, or `open` to take the decision back. `keep` rejects the candidate.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bonepipe.data import corrections
from bonepipe.data.corrections import COLUMNS, REMARK
from bonepipe.errors import BonepipeError
from bonepipe.files import read_csv, replacing, write_csv

TABLE, FILE = "label_errors.csv", "corrections.csv"  # of a run's folder: the candidates, and what is decided
# Columns of the candidates.
CANDIDATES = ("rank", "image_name", "patient", "class", "becomes", "kind", "score", "suggestion", "remark")
SEPARATOR = "; "  # between the classes of a candidate
KEEP, DROP_IMAGE, OPEN = "keep", "drop-image", "open"
ACCEPTED = "accepted"  # begins the remark of what somebody decided, as against what was suggested
Row = dict[str, str]


@dataclass(frozen=True)
class Candidate:
    """A row of label_errors.csv; `becomes` are the right classes of those that are permuted, in their order."""

    rank: int
    image: str
    classes: tuple[str, ...]
    becomes: tuple[str, ...]
    kind: str
    score: float
    suggestion: str
    remark: str

    @property
    def actions(self) -> tuple[str, ...]:
        """What can be done about it, besides taking a decision back."""
        single = ("replace", "drop") if len(self.classes) == 1 else ()
        return (*(["permute"] if self.becomes else ()), *single, DROP_IMAGE, KEEP)

    def rows(self, action: str, code: str = "") -> list[Row]:
        """The rows of the corrections file that carry one of its actions out; `code` is the mask that replaces one."""
        reason = f"{'rejected' if action == KEEP else ACCEPTED}: {self.kind} {self.score:.2f}"
        if action == DROP_IMAGE:
            return [_row(self.image, "", "drop", "", reason)]
        values = {"permute": self.becomes, "replace": (code,)}.get(action, ("",) * len(self.classes))
        pairs = () if action == OPEN else zip(self.classes, values, strict=True)
        return [_row(self.image, label, action, value, reason) for label, value in pairs]

    def concerns(self, row: Row) -> bool:
        """Whether a row of the corrections file decides about it."""
        if row["image_name"] != self.image:
            return False
        return row["class"] in self.classes or (not row["class"] and row["action"] == "drop")

    def state(self, rows: Sequence[Row]) -> dict[str, str]:
        """Its `action` in the corrections file (`open` without one), `by` a suggestion (`suggested`) or `decided`."""
        about = [row for row in rows if self.concerns(row)]
        if not about:
            return {"action": OPEN, "by": ""}
        first = next((row for row in about if not row["class"]), about[0])
        suggested = first["action"] != KEEP and not first.get(REMARK, "").startswith(ACCEPTED)
        action = first["action"] if first["class"] else DROP_IMAGE
        return {"action": action, "by": "suggested" if suggested else "decided"}


def _row(*values: str) -> Row:
    return dict(zip((*COLUMNS, REMARK), values, strict=True))


def read_candidates(path: Path) -> list[Candidate]:
    """The candidates of label_errors.csv. Raises BonepipeError where it cannot be read."""
    try:
        return [_candidate(row) for _, row in read_csv(path, CANDIDATES)]
    except (BonepipeError, ValueError) as error:
        reason = str(error) if isinstance(error, BonepipeError) else f"{path}: cannot be read ({error})"
        raise BonepipeError(f"{reason}; `bonepipe label-errors` writes it anew") from error


def _candidate(row: Row) -> Candidate:
    labels, right = (tuple(filter(None, row[column].split(SEPARATOR))) for column in ("class", "becomes"))
    facts = row["kind"], float(row["score"]), row["suggestion"], row["remark"]
    return Candidate(int(row["rank"]), row["image_name"], labels, right, *facts)


class Review:
    """Candidates and what was decided about them.

    Args:
        candidates: in order of rank.
        path: the corrections file; it need not be there yet.
        classes: of the dataset.
        names: of the images that corrections may be about.
        code: image, class -> the run-length code of the mask that would replace the annotation's; None where there is
            none.
    """

    def __init__(
        self,
        candidates: Sequence[Candidate],
        path: Path,
        classes: Sequence[str],
        names: Sequence[str],
        code: Callable[[str, str], str | None],
    ) -> None:
        self.candidates, self.path, self.classes, self.names = candidates, path, classes, names
        self._code, self._lock = code, threading.Lock()

    def states(self) -> list[Mapping[str, str]]:
        """What was decided about each candidate, see `Candidate.state`. Raises BonepipeError, see `read_csv`."""
        rows = self._read()
        return [candidate.state(rows) for candidate in self.candidates]

    def decide(self, rank: int, action: str) -> None:
        """Write a decision into the corrections file; what else stands there stays.

        Raises:
            BonepipeError: no such candidate or action, no mask to replace the annotation, or the file would be none
                that `data.corrections` takes. It is then as it was.
        """
        candidate = next((candidate for candidate in self.candidates if candidate.rank == rank), None)
        if candidate is None:
            raise BonepipeError(f"no candidate has the rank {rank}")
        if action not in (possible := (*candidate.actions, OPEN)):
            raise BonepipeError(f"candidate {rank}: {action[:80]!r} is none of {', '.join(possible)}")
        code = self._code(candidate.image, candidate.classes[0]) if action == "replace" else ""
        if code is None:
            raise BonepipeError(f"{candidate.image}, {candidate.classes[0]}: there is no predicted mask to put there")
        with self._lock:
            kept = [row for row in self._read() if not candidate.concerns(row)]
            self._write([*kept, *candidate.rows(action, code)])

    def _read(self) -> list[Row]:
        return [row for _, row in read_csv(self.path, COLUMNS)] if self.path.exists() else []

    def _write(self, rows: Sequence[Row]) -> None:
        columns = list(dict.fromkeys([*COLUMNS, REMARK, *(column for row in rows for column in row)]))
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(self.path) as part:
            write_csv(part, columns, ([row.get(column, "") for column in columns] for row in rows))
            names = [*self.names, *(row["image_name"] for row in self._read())]
            try:
                corrections.read(part, self.classes, names)
            except BonepipeError as error:  # people know the file, and not its new version
                raise BonepipeError(str(error).replace(str(part), str(self.path))) from error
