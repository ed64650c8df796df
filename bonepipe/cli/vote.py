"""`bonepipe vote A.csv B.csv ... -o OUT.csv`: hard vote of submissions, on runs."""

from collections.abc import Sequence

from bonepipe.cli.arguments import make_parser

SUMMARY = """\
Combine several submission CSVs by majority vote.

A pixel belongs to a class when enough files say so. Without --min-votes this takes more than half of the total weight:
two of three files, three of four. At a tie (two of four) the pixel is background; --min-votes 2 makes it foreground.
With --min-votes K a pixel needs a weight of at least K. Each file weighs 1 unless --weights gives one number a file.
All files must hold the same rows in the same order.
With --only some classes are decided by some of the files alone, with their weights; more than half is then more than
half of theirs. A single file decides for itself. Classes that no --only names are decided by all files."""
EXAMPLES = """
bonepipe vote fold0.csv fold1.csv fold2.csv -o ensemble.csv
bonepipe vote unet.csv fpn.csv segformer.csv -o ensemble.csv --weights 2,1,1 --min-votes 2
bonepipe vote unet.csv fpn.csv segformer.csv -o ensemble.csv --only Pisiform,Triquetrum=unet.csv,segformer.csv"""


def main(words: Sequence[str]) -> int:
    """Vote and write the result."""
    parser = make_parser("vote", SUMMARY, examples=EXAMPLES)
    add = parser.add_argument
    add("files", metavar="CSV", nargs="+", help="two files or more")
    add("-o", "--output", metavar="OUT.csv", required=True, help="the file to write")
    add("--min-votes", metavar="K", type=float, help="at least this weight (default: more than half)")
    add("--weights", metavar="W1,W2,...", help="one weight a file (default: 1 each)")
    only = "these classes are decided by these files alone; may be given several times"
    add("--only", metavar="CLASS,...=CSV,...", action="append", default=[], help=only)
    given = parser.read(words)
    from bonepipe.pipeline.vote import vote

    count = vote(given.files, given.output, given.weights, given.min_votes, given.only)
    print(f"wrote {given.output}: {count} rows from {len(given.files)} files")
    return 0
