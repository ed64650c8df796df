"""The console script: finds the command, runs it, and turns a user's mistake into one message and an exit code."""

import importlib
import os
import sys
from collections.abc import Sequence

from bonepipe import __version__
from bonepipe.errors import BonepipeError, UsageError, suggestion

COMMANDS = {
    "phantom": "write a synthetic dataset in the competition's format",
    "options": "list everything that can be chosen: models, losses, augmentations, ...",
    "doctor": "audit a dataset: every problem named with its file",
    "split": "write the fold file that says which fold validates each patient",
    "train": "train one fold (fold=K) and predict its validation images; resumes by itself",
    "train-all": "train every fold, then find the thresholds and write the cross-validation summary",
    "autoaugment": "search an augmentation policy on a trained fold (Fast AutoAugment)",
    "weak-labels": "weak supervision: masks from a classifier's activation maps, to train on (data.masks)",
    "speed": "measure a training step: does the network or the data loading hold it back?",
    "submit": "train what is missing, predict the test images with all folds, write, check and score submission.csv",
    "ensemble": "average any finished runs: cross-validate the mixture, predict the test images",
    "cascade": "coarse to fine: look closely where a first stage has found the region of some classes (the wrist)",
    "predict": "predict any radiographs: overlays, masks, polygons to correct, and a CSV",
    "label-errors": "rank suspicious annotations from out-of-fold predictions, and suggest corrections",
    "pseudo": "pseudo-labels of the test images, to train on with data.pseudo",
    "ablation": "what does each technique, or each step to the submission, gain and cost? as a table",
    "score": "score a CSV of masks against the truth",
    "check": "is a CSV a valid submission for this test set?",
    "leaderboard": "record leaderboard scores beside runs, and how well cross-validation predicts them",
    "compare": "which settings differ between two runs, and how the Dice changed",
    "select": "which finished runs to average: writes the ensemble that is best out of fold",
    "clean": "delete the results of an experiment",
    "vote": "combine several submission CSVs by majority vote",
}


def usage() -> str:
    """The text of `bonepipe --help`."""
    rows = "\n".join(f"  {name:<12} {summary}" for name, summary in COMMANDS.items())
    return (
        f"bonepipe {__version__}: segment the bones of hand radiographs, fold by fold\n\n"
        f"usage: bonepipe COMMAND [ARGUMENTS] [--traceback]\n\n{rows}\n\n"
        "`bonepipe COMMAND --help` explains a command. --traceback (or BONEPIPE_TRACEBACK=1) shows an error's origin."
    )


def run(command: str, words: Sequence[str]) -> int:
    """Run one command and return its exit code."""
    if command not in COMMANDS:
        raise UsageError(f"no such command: {command!r}{suggestion(command, COMMANDS)} (`bonepipe --help` lists them)")
    module = importlib.import_module(f"bonepipe.cli.{command.replace('-', '_')}")
    return int(module.main(list(words)) or 0)


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point of the console script. Exit code 0, 1 for a problem with data or files, 2 for wrong usage."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    traceback_wanted = "--traceback" in words or bool(os.environ.get("BONEPIPE_TRACEBACK"))
    try:
        code = _answer([word for word in words if word != "--traceback"], traceback_wanted)
        sys.stdout.flush()  # a reader that has gone away is noticed here and not at the interpreter's end
        return code
    except BrokenPipeError:
        # What is still to be printed goes nowhere, or the interpreter would complain of the closed pipe at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141  # as the shell has it for a program that SIGPIPE ends


def _answer(words: Sequence[str], traceback_wanted: bool) -> int:
    if words[:1] == ["help"]:
        words = [*words[1:2], "--help"]
    if not words or words[0] in ("-h", "--help", "--version"):
        print(__version__ if words[:1] == ["--version"] else usage())
        return 0 if words else 2
    try:
        return run(words[0], words[1:])
    except SystemExit as stop:  # argparse has printed the help
        return int(stop.code or 0)
    except (BonepipeError, OSError) as error:
        if traceback_wanted or (isinstance(error, OSError) and error.filename is None):
            raise
        print(f"bonepipe {words[0]}: {_reason(error)}", file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 1
    except KeyboardInterrupt:
        print("\nbonepipe: stopped; run the same command again to go on", file=sys.stderr)
        return 130


def _reason(error: BonepipeError | OSError) -> str:
    return f"{error.filename}: {error.strerror}" if isinstance(error, OSError) else str(error)
