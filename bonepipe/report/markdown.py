"""Tables in Markdown, and their places in a document."""

from collections.abc import Sequence
from pathlib import Path

from bonepipe.files import replacing


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table with aligned columns."""
    lines = [tuple(header), *(tuple(row) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    padded = ((cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines)
    texts = [f"| {' | '.join(cells)} |" for cells in padded]
    return "\n".join([texts[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *texts[1:]])


def replace_block(path: Path, name: str, text: str, title: str) -> None:
    """Put text between the markers `<!-- NAME:start -->` and `<!-- NAME:end -->` of a document, whose rest stays.

    A document without markers gets them at its end; a missing one is begun with the title.
    """
    start, end = f"<!-- {name}:start -->", f"<!-- {name}:end -->"
    content = path.read_text(encoding="utf-8") if path.exists() else f"# {title}\n"
    before, marker, rest = content.partition(start)
    after = rest.partition(end)[2] if marker else "\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as part:
        part.write_text(f"{before if marker else before.rstrip() + chr(10) * 2}{start}\n{text}\n{end}{after}", "utf-8")
