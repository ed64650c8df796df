"""`bonepipe study`: what each technique gains, one change at a time."""

import argparse
import csv
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bonepipe import config as configs
from bonepipe.errors import BonepipeError, UsageError
from bonepipe.parallel import cores
from bonepipe.pipeline.experiment import resolve_device, say
from bonepipe.report import markdown
from bonepipe.training.executors import environment

EPILOG = """\
The file names a base experiment (a list of overrides), seeds, and groups of changes (name: a list of overrides).
Every change is trained once a seed on fold 0 and compared with the base of the same seed, so that a gain has an error.
What is finished is not done again, and what was interrupted goes on: stop it and call it again whenever you like.

example: bonepipe study conf/study.yaml --jobs 2 --document docs/study.md
"""
CONFIDENCE = 0.95
HEADER = ("group", "change", "overrides", "Dice", "gain over the base", "verdict")


@dataclass(frozen=True)
class Variant:
    """The base or a change of it."""

    group: str
    name: str
    overrides: tuple[str, ...]


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    result = argparse.ArgumentParser(
        "bonepipe study",
        description="Train one change at a time and report what each gains.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    result.add_argument("file", nargs="?", type=Path, default=Path("conf/study.yaml"), help="the study (%(default)s)")
    result.add_argument("--jobs", type=int, help="runs at once (default: one a core without a GPU, else 1)")
    result.add_argument("--runs", default="runs/study", help="folder of the runs (%(default)s)")
    result.add_argument("--document", type=Path, help="Markdown file whose table is rewritten; else it is printed only")
    return result


def main(arguments: Sequence[str]) -> int:
    """Train what is missing, then compare."""
    options = parser().parse_args(arguments)
    study = read(options.file)
    variants = variants_of(study)
    commands = {
        (variant, seed): words_of(study, variant, seed, options.runs) for variant in variants for seed in study["seeds"]
    }
    for words in commands.values():  # a misspelt override is refused before the first run
        configs.compose(words)
    _train([(Path(options.runs) / _name(*key), words) for key, words in commands.items()], options.jobs)
    scores = {
        variant: [score(Path(options.runs) / _name(variant, seed)) for seed in study["seeds"]] for variant in variants
    }
    text = markdown.table(HEADER, [row(variant, scores[variant], scores[variants[0]]) for variant in variants])
    print(text)
    if options.document:
        markdown.replace_block(options.document, "study", text, "What each technique gains")
    return 0


def read(path: Path) -> dict[str, Any]:
    """Read a study file. Raises UsageError where it is missing or lacks a field."""
    import yaml

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise UsageError(f"{path}: cannot be read ({error})") from error
    for field, kind in (("base", list), ("seeds", list), ("changes", dict)):
        if not isinstance(content, dict) or not isinstance(content.get(field), kind) or not content[field]:
            raise UsageError(f"{path}: {field}: expected a {kind.__name__} (see conf/study.yaml)")
    return content


def variants_of(study: Mapping[str, Any]) -> list[Variant]:
    """The base, then every change."""
    changes = [
        Variant(group, str(name), tuple(overrides))
        for group, members in study["changes"].items()
        for name, overrides in members.items()
    ]
    return [Variant("", "base", ()), *changes]


def words_of(study: Mapping[str, Any], variant: Variant, seed: int, runs: str) -> list[str]:
    """The overrides of one run."""
    return [
        *study["base"],
        *variant.overrides,
        f"name={_name(variant, seed)}",
        f"seed={seed}",
        f"runs={runs}",
        "fold=0",
    ]


def _name(variant: Variant, seed: int) -> str:
    """A run's name: letters, digits and dashes."""
    words = "-".join((variant.group, variant.name)).lower()
    return "-".join("".join(c if c.isalnum() else " " for c in words).split()) + f"-{seed}"


def _train(runs: Sequence[tuple[Path, list[str]]], jobs: int | None) -> None:
    """Train what is not trained, several at once, each with its own log and its share of the cores."""
    from tqdm import tqdm

    missing = [run for run in runs if not (run[0] / "fold-0" / "oof_dice.csv").is_file()]
    if not missing:
        return
    at_once = jobs or (cores() if resolve_device("auto") == "cpu" else 1)
    shared = environment(at_once)
    say(f"{len(missing)} of {len(runs)} runs to train, {at_once} at once")

    def train(run: tuple[Path, list[str]]) -> tuple[Path, int]:
        folder, words = run
        folder.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "bonepipe", "train", *words]
        with (folder / "log.txt").open("a") as log:
            code = subprocess.run(command, env=shared, stdout=log, stderr=log, check=False).returncode
        if not code:  # nothing will go on from it, and it is four times as large as the weights
            (folder / "fold-0" / "last.ckpt").unlink(missing_ok=True)
        return folder, code

    with ThreadPoolExecutor(at_once) as pool:
        done = list(tqdm(pool.map(train, missing), "study", len(missing), unit="run"))
    failed = [folder for folder, code in done if code]
    if failed:
        raise BonepipeError(f"{failed[0] / 'log.txt'}: tells why this run failed ({len(failed)} of {len(done)} did)")


def score(folder: Path) -> float:
    """Mean Dice of a run's out-of-fold predictions, over images and classes."""
    with (folder / "fold-0" / "oof_dice.csv").open(newline="") as file:
        return float(np.mean([float(entry["dice"]) for entry in csv.DictReader(file)]))


def row(variant: Variant, dice: Sequence[float], base: Sequence[float]) -> tuple[str, ...]:
    """A line of the table; gains are taken seed by seed."""
    overrides = " ".join(f"`{word}`" for word in variant.overrides)
    mean = f"{np.mean(dice):.4f} ± {np.std(dice, ddof=1):.4f}" if len(dice) > 1 else f"{dice[0]:.4f}"
    if not variant.overrides:
        return "", "base", "", mean, "", ""
    gains = np.subtract(dice, base)
    return variant.group, variant.name, overrides, mean, *verdict(gains)


def verdict(gains: np.ndarray) -> tuple[str, str]:
    """The mean gain with its confidence interval, and what it says: Student's t, as the seeds are few."""
    from scipy import stats

    mean = float(gains.mean())
    if len(gains) < 2:
        return f"{mean:+.4f}", "one seed: no telling"
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, len(gains) - 1) * gains.std(ddof=1) / np.sqrt(len(gains)))
    word = "gains" if mean > half else "costs" if mean < -half else "no difference beyond the noise"
    return f"{mean:+.4f} ± {half:.4f}", word
