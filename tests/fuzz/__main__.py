"""`python -m tests.fuzz`: try hostile files on every reader, and write docs/reliability.md."""

import argparse
import sys
import tempfile
from pathlib import Path

from tqdm import tqdm

from bonepipe.report import markdown

from .engine import LIMIT, Outcome, Target, fuzz
from .targets import TARGETS

PAGE = Path("docs/reliability.md")
HEADER = ("file", "inputs", "taken", "refused", "at lines", "a second", "slowest", "compared with", "failures")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    result = argparse.ArgumentParser("python -m tests.fuzz", description=__doc__)
    result.add_argument("--seconds", type=float, default=600, help="CPU time of all targets together (%(default)g)")
    result.add_argument("--examples", type=int, default=10**9, help="at most so many inputs a file")
    result.add_argument("--only", nargs="+", choices=list(TARGETS), metavar="TARGET", help=f"of {', '.join(TARGETS)}")
    result.add_argument("--seed", type=int, default=0, help="the same inputs with the same seed (%(default)s)")
    result.add_argument("--write", action="store_true", help=f"write {PAGE} even with --only")
    return result


def run(names: list[str], seconds: float, examples: int, seed: int) -> list[tuple[Target, Outcome]]:
    """Try the targets one after another, each in a folder of its own, an equal share of the time each."""
    results = []
    with tempfile.TemporaryDirectory() as scratch:
        places = [Path(scratch) / name / "files" for name in names]
        for place in places:
            place.mkdir(parents=True)
        targets = [
            (place, target) for place, name in zip(places, names, strict=True) for target in TARGETS[name](place)
        ]
        with tqdm(unit=" inputs", unit_scale=True) as bar:
            for place, target in targets:
                bar.set_description(target.name)
                share = seconds / len(targets)
                outcome = fuzz(target, place, inputs=examples, seconds=share, start=seed, tell=bar.update)
                results.append((target, outcome))
                for kind, content in outcome.failures.items():
                    bar.write(f"{target.name}: {kind}\n    {content[:400]!r}", sys.stderr)
    return results


def table(results: list[tuple[Target, Outcome]]) -> str:
    """What became of the inputs, a row a target."""
    rows = [
        (
            target.name, f"{o.inputs:,}", f"{o.taken:,}", f"{o.refused:,}", str(len(o.places)),
            f"{o.inputs / max(o.seconds, 1e-9):,.0f}",
            f"{1e3 * o.slowest:,.0f} ms", target.compared, str(len(o.failures)),
        )
        for target, o in results
    ]  # fmt: skip
    return markdown.table(HEADER, rows)


def note(results: list[tuple[Target, Outcome]], seed: int) -> str:
    """What the table is of."""
    inputs = sum(outcome.inputs for _, outcome in results)
    failures = sum(len(outcome.failures) for _, outcome in results)
    return (
        f"`make fuzz` tried {inputs:,} files (seed {seed}), made from valid ones by changing bits, words, rows and "
        f"values, and at random, on whatever reads them: {failures} kinds of failure. An input fails where it ends in "
        f"anything but a typed error of one line that names the file, takes more than {LIMIT:g} s of CPU time, gives "
        "another result than an independent calculation, or has something written outside its folder, a process "
        "started or an object unpickled."
    )


def main() -> int:
    """Exit code 1 where something failed."""
    given = parser().parse_args()
    results = run(given.only or list(TARGETS), given.seconds, given.examples, given.seed)
    text = f"{note(results, given.seed)}\n\n{table(results)}"
    print(text)
    if given.write or not given.only:
        markdown.replace_block(PAGE, "fuzz", text, "Reliability")
    return int(any(outcome.failures for _, outcome in results))


if __name__ == "__main__":
    sys.exit(main())
