"""`bonepipe ablation FILE`: what each technique, or each step to the submission, gains and costs."""

from collections.abc import Sequence
from pathlib import Path

from bonepipe.cli.arguments import make_parser
from bonepipe.errors import UsageError

SUMMARY = """\
Run the rows of a file, each compared with another one, and report what each gains and costs.

FILE is a YAML file or one of conf/ablation:
  techniques  one change at a time, a training of fold 0 a seed; gains with their 95% confidence interval
  steps       from one model to the final submission, step by step
A row is trainings or commands that build on those of the rows before ({base}, {runs} and {seed} stand for the file's
base, --runs and the seed). A row that is done is not done again, unless the resolved settings of its commands or of
those before have changed; what was interrupted goes on: stop it and call it again whenever you like.
Core-minutes are those that processor cores worked; other work on the machine changes them less than minutes. Of a row
that was interrupted neither is known."""
EXAMPLES = """
bonepipe ablation techniques --jobs 2 --document docs/study.md
bonepipe ablation steps --document docs/gains.md"""


def main(words: Sequence[str]) -> int:
    """Run what was not run yet, then lay out the table."""
    parser = make_parser("ablation", SUMMARY, examples=EXAMPLES)
    add = parser.add_argument
    add("file", metavar="FILE", help="techniques, steps, or a YAML file")
    add("--runs", type=Path, help="folder of the runs (default: runs/FILE)")
    add("--jobs", type=int, help="trainings at once (default: one a GPU, or one a core without any)")
    add("--more", action="store_true", help="run the rows that are marked as further ones, too")
    add("--document", type=Path, help="Markdown file whose table is rewritten; else it is printed only")
    given = parser.read(words)
    if given.jobs is not None and given.jobs < 1:
        raise UsageError(f"--jobs {given.jobs}: at least 1")
    from bonepipe.pipeline import ablation
    from bonepipe.report import ablation as report
    from bonepipe.report import markdown

    path = ablation.find(given.file)
    rows, runs = ablation.read(path), given.runs or Path("runs") / path.stem
    tasks = ablation.tasks(rows, runs)
    done = ablation.run(tasks, runs, given.more, given.jobs)
    results = {row.name: [done[t.digest] for t in tasks if t.row == row and t.digest in done] for row in rows.compared}
    lines = [report.Line(r.group, r.name, r.train or "", r.over) for r in rows.compared if results[r.name]]
    text = report.table(lines, results, seeded=rows.seeds is not None)
    print(text)
    if given.document:
        markdown.replace_block(given.document, given.document.stem, text, "What each row gains")
    return 0
