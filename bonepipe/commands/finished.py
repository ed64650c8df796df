"""What a user names to predict with: `--run FOLDER` of anything finished, or the overrides of an experiment."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from bonepipe import config as configs
from bonepipe.commands.look import open_first, open_look
from bonepipe.commands.predictor import CONFIG, SECOND_LOOK, Predictor, Run, placed, require_finished
from bonepipe.errors import BonepipeError, UsageError, suggestion
from bonepipe.pipeline.experiment import OVERRIDES, Experiment

VALUED = ("-o", "--output", "--run", "--confidence")  # flags whose next word is their value


def make_parser(command: str, flags: str, description: str, examples: str) -> argparse.ArgumentParser:
    """The parser of a command that takes `--run FOLDER` or overrides; `flags` are its own, for the line of usage."""
    result = argparse.ArgumentParser(
        f"bonepipe {command}",
        usage=f"bonepipe {command} {flags}[--run FOLDER | OVERRIDES]",
        description=description,
        epilog=f"{OVERRIDES}\n\nexamples:\n{examples}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    result.add_argument(
        "--run", metavar="FOLDER", type=Path,
        help="predict with the run, ensemble or second look in this folder, in place of OVERRIDES",
    )  # fmt: skip
    return result


def parse(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """A command's flags, and its overrides; files whose names hold an equals sign are files."""
    before = ["", *arguments]
    rest = [word for word, flag in zip(arguments, before, strict=False) if flag in VALUED or not _is_override(word)]
    overrides = [
        word for word, flag in zip(arguments, before, strict=False) if flag not in VALUED and _is_override(word)
    ]
    return parser.parse_args(rest), overrides


def _is_override(word: str) -> bool:
    try:
        return "=" in word and not word.startswith("-") and not Path(word).exists()
    except OSError:  # too long for a file's name
        return True


def open_finished(folder: Path | None, overrides: Sequence[str]) -> Predictor:
    """What predicts: that of a folder, or the run of an experiment's settings.

    Raises:
        UsageError: both are given, or a run that sees only a region.
        BonepipeError: there is nothing, or it is not finished.
    """
    if folder is None:
        experiment = Experiment(configs.compose(overrides))
        require_finished(experiment)
        return Run(experiment)
    _check(folder, overrides)
    return open_look(folder) if (folder / SECOND_LOOK).is_file() else open_first(folder)


def read_settings(folder: Path | None, overrides: Sequence[str]) -> Experiment:
    """The settings alone, for commands that read results and predict nothing; raises as `open_finished`."""
    if folder is None:
        return Experiment(configs.compose(overrides))
    _check(folder, overrides)
    own = folder / CONFIG
    if own.is_file():
        return placed(configs.load(own), folder)
    predictor = open_finished(folder, [])  # of a run; an ensemble or a second look says what it lacks
    return predictor.experiment


def _check(folder: Path, overrides: Sequence[str]) -> None:
    if overrides:
        raise UsageError(f"--run {folder}: has settings of its own; leave out {' '.join(overrides)}")
    if not folder.is_dir():
        near = [path.name for path in folder.parent.glob("*") if path.is_dir()]
        raise BonepipeError(f"{folder}: no such folder{suggestion(folder.name, near)}")
