"""What files must look like: their content checked against a type, the first field that does not fit named."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from bonepipe.disk import require_file
from bonepipe.errors import BonepipeError, reason

if TYPE_CHECKING:
    from pydantic import TypeAdapter

T = TypeVar("T")
LARGEST = 1 << 28  # bytes; the digests of a million files have half of it


def read_json(path: Path, kind: type[T], way_out: str) -> T:
    """The content of a JSON file, of a type that pydantic knows; a typed dictionary may hold further keys.

    Args:
        path: of the file.
        kind: such as `dict[str, float]`, or a TypedDict.
        way_out: what to do where the file is broken, for the message.

    Raises:
        FileNotFoundError: there is no such file; what that means, only the caller knows.
        BonepipeError: it cannot be read, is no JSON or not of this type; the message names file and field.
    """
    try:
        require_file(path, LARGEST)
        return fitting(path.read_bytes(), kind)
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise BonepipeError(f"{path}: cannot be read ({reason}); {way_out}") from error


def named(place: Sequence[str | int]) -> str:
    """A field by the keys that lead to it, those that a line cannot show as Python writes them."""
    return ".".join(key if isinstance(key, str) and key.isprintable() else repr(key) for key in place)


@cache
def adapter(kind: Any) -> "TypeAdapter[Any]":
    """What checks values against a type; to make it takes longer than to use it."""
    from pydantic import TypeAdapter

    return TypeAdapter(kind)


def fitting(content: Any, kind: type[T]) -> T:
    """A content that is of a type, as it is. Raises ValueError naming the first field that is not.

    Args:
        content: JSON as bytes or text, or plain values.
        kind: see `read_json`; numbers are not taken from texts, nor whole ones from others.
    """
    from pydantic import ValidationError
    from pydantic_core import from_json

    values = from_json(content) if isinstance(content, bytes | str) else content
    try:
        adapter(cast("Any", kind)).validate_python(values, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        raise ValueError(": ".join(filter(None, [reason(named(first["loc"]), 200), first["msg"]]))) from error
    return values
