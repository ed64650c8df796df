"""`bonepipe options`: everything that can be chosen, group by group."""

from collections.abc import Sequence
from pathlib import Path

from bonepipe.cli.arguments import make_parser
from bonepipe.config import GROUPS
from bonepipe.errors import UsageError, suggestion

SUMMARY = """\
List the options of every config group with their settings.

Each line is a file of conf/GROUP/. Choose it with the override in the first column; every setting is an override
too."""
EXAMPLES = """
bonepipe options loss
bonepipe options --costs
bonepipe train loss=tversky loss.alpha=0.6"""


def main(words: Sequence[str]) -> int:
    """Print or write the list."""
    known = (*GROUPS, "experiment")
    parser = make_parser("options", SUMMARY, examples=EXAMPLES)
    parser.add_argument("groups", metavar="GROUP", nargs="*", help=f"of {', '.join(known)}")
    costs = "measure the models instead: parameters, FLOPs, time, memory"
    parser.add_argument("--costs", action="store_true", help=costs)
    parser.add_argument("--document", type=Path, help="rewrite the list in this Markdown file")
    given = parser.read(words)
    for group in given.groups:
        if group not in known:
            raise UsageError(f"no group {group!r}{suggestion(group, known)} (there are {', '.join(known)})")
    from bonepipe.report import markdown, options

    text = _costs() if given.costs else "\n\n".join(options.section(group) for group in given.groups or known)
    name, title = ("models", "What the models cost") if given.costs else ("options", "Options")
    if given.document:
        markdown.replace_block(given.document, name, text, title)
    else:
        print(text)
    return 0


def _costs() -> str:
    from tqdm import tqdm

    from bonepipe.models.costs import model_table
    from bonepipe.report import options

    names = [path.stem for path in options.paths("model")]
    return options.costs(row for name in tqdm(names, "models", unit="model") for row in model_table([name]))
