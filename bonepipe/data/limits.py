"""The most that one file may claim of this machine's memory and time: settings, `data.limits`."""

from dataclasses import dataclass, fields
from typing import Annotated

from annotated_types import Interval

from bonepipe.errors import BonepipeError, UsageError, suggestion
from bonepipe.forms import adapter, named
from bonepipe.labels.rle import LARGEST
from bonepipe.ranges import Count

PIXEL = 8  # bytes: red, green, blue and alpha of 16 bits, not compressed
HEADER = 16 << 20  # bytes beside the pixels


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How large a file may be, or say that it is, before it is refused by name and nothing is set aside for it.

    Attributes:
        pixels: of an image. To read one takes up to 16 bytes a pixel, or so.
        outlines: of an annotation.
        points: of all outlines of an annotation.
        length: of an outline along its edge, pixels: the time to fill it grows with that.
        megabytes: of an annotation's file.
    """

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012 - pydantic's name: a misspelt key is refused

    pixels: Annotated[int, Interval(ge=1, le=LARGEST)] = 100_000_000
    outlines: Count = 2_000
    points: Annotated[int, Interval(ge=1, le=10**8)] = 500_000
    length: Annotated[int, Interval(ge=1, le=1 << 24)] = 1 << 17
    megabytes: Annotated[int, Interval(ge=1, le=1 << 14)] = 32

    @property
    def image_bytes(self) -> int:
        """Of a file that holds an image, and of what it unpacks to."""
        return PIXEL * self.pixels + HEADER

    def require(self, name: str, value: int, where: str, what: str) -> None:
        """Raise BonepipeError, naming the setting that raises the limit, where a value is above it."""
        if value > getattr(self, name):
            raise BonepipeError(f"{where}: {what}; {self.told(name)}")

    def require_pixels(self, shape: tuple[int, int], where: str) -> None:
        """Raise BonepipeError where an image of this height and width is too large."""
        height, width = shape
        self.require("pixels", height * width, where, f"says that it has {width} x {height} pixels")

    def told(self, name: str) -> str:
        """A limit and how it is raised."""
        limit = f"data.limits.{name}={getattr(self, name)}"
        return (
            f"{limit} is the most that is read; if the file is right, raise it (`check`, `convert`: --limits {name}=N)"
        )


DEFAULTS = Limits()


def parse(text: str | None) -> Limits:
    """Limits from the words of a command line, such as `pixels=200000000,points=1000000`. Raises UsageError."""
    from pydantic import ValidationError

    names = [field.name for field in fields(Limits)]
    values = {}
    for word in filter(None, (text or "").split(",")):
        name, _, value = word.partition("=")
        if name not in names:
            raise UsageError(f"--limits {word[:80]}: there are {', '.join(names)}{suggestion(name, names)}")
        values[name] = value
    try:
        return adapter(Limits).validate_python(values)
    except ValidationError as error:
        first = error.errors()[0]
        raise UsageError(f"--limits {named(first['loc'])}: {first['msg']}") from error
