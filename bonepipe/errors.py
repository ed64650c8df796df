"""The two errors that a user may cause; everything else is a bug and shows its traceback."""

from collections.abc import Iterable
from reprlib import Repr
from typing import Any

LONGEST = 4000  # letters of a message; names in it come from files, and may have millions


class BonepipeError(Exception):
    """Bad data, a bad file or an impossible request. The message names the file, the field and the way out."""

    def __str__(self) -> str:
        text = super().__str__()
        return text if len(text) <= LONGEST else f"{text[: LONGEST // 2]} [...] {text[-LONGEST // 2 :]}"


class UsageError(BonepipeError):
    """A command line that cannot be understood: an unknown flag, a misspelt or ill-typed override."""


def suggestion(name: str, known: Iterable[str], likeness: float = 0.6) -> str:
    """`; did you mean 'x'?` with the known name nearest to an unknown one, or nothing where none is alike."""
    import difflib  # only who errs pays for the import

    near = difflib.get_close_matches(name, list(known), n=1, cutoff=likeness)
    return f"; did you mean {near[0]!r}?" if near else ""


def quoted(value: Any, most: int = 80) -> str:
    """What a file holds, as a message shows it: a million letters or numbers are cut to their beginning and end."""
    shortener = Repr()
    shortener.maxstring = shortener.maxother = most
    return shortener.repr(value)


def reason(error: object, most: int = 300) -> str:
    """What a library says, in one line that is cut where the file's content makes it long."""
    text = " ".join(str(error).split())
    return text if len(text) <= most else f"{text[:most]}..."
