"""The console script: finds the command, runs it, and turns a user's mistake into one message and an exit code."""

import contextlib
import importlib
import os
import sys
from collections.abc import Sequence

from bonepipe import __version__, memory
from bonepipe.cli.commands import COMMANDS, usage
from bonepipe.cli.encoding import ensure_utf8
from bonepipe.disk import refusal, told
from bonepipe.errors import BonepipeError, UsageError, suggestion
from bonepipe.interruption import end_with_parent, exit_code, heard, signal_of
from bonepipe.parallel import let_threads_sleep

WITH_FOLDS = ("train-all", "submit", "ablation")  # which train them as processes of their own
TRAIN = ("train", "train-all", "speed", "autoaugment", "weak-labels")
PREDICT = ("submit", "predict", "ensemble", "cascade", "select", "label-errors", "pseudo")
WORK = dict.fromkeys(TRAIN, memory.TRAINING) | dict.fromkeys(PREDICT, memory.PREDICTION)


def run(command: str, words: Sequence[str]) -> int:
    """Run one command and return its exit code."""
    if command not in COMMANDS:
        raise UsageError(f"no such command: {command!r}{suggestion(command, COMMANDS)} (`bonepipe --help` lists them)")
    module = importlib.import_module(f"bonepipe.cli.{command.replace('-', '_')}")
    with memory.explained(WORK.get(command, memory.ANYTHING)):
        return int(module.main(list(words)) or 0)


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point of the console script. Exit code 0, 1 for a problem with data or files, 2 for wrong usage."""
    if arguments is None:
        ensure_utf8()
        let_threads_sleep(os.environ)
    words = list(sys.argv[1:] if arguments is None else arguments)
    traceback_wanted = "--traceback" in words or bool(os.environ.get("BONEPIPE_TRACEBACK"))
    try:
        code = _answer([word for word in words if word != "--traceback"], traceback_wanted)
        if sys.stdout is not None:  # it is None where the shell closed it
            sys.stdout.flush()  # a reader that has gone away is noticed here and not at the interpreter's end
        return code
    except KeyboardInterrupt as stop:
        return _stopped(words[0] if words else "", stop)
    except OSError as error:
        if sys.stdout is None or traceback_wanted or not error.errno:
            raise
        # What cannot be printed goes nowhere, or the interpreter would complain of the closed pipe at its end.
        with contextlib.suppress(OSError):
            sys.stdout.flush()
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            return 141  # as the shell has it for a program that SIGPIPE ends
        # Python says which file could not be opened, and not which could not be written.
        print(f"bonepipe {' '.join(words[:1])}: {told(error)} (--traceback tells where)", file=sys.stderr)
        return 1


def _answer(words: Sequence[str], traceback_wanted: bool) -> int:
    if words[:1] == ["help"]:
        words = [*words[1:2], "--help"]
    if not words or words[0] in ("-h", "--help", "--version"):
        print(__version__ if words[:1] == ["--version"] else usage())
        return 0 if words else 2
    try:
        with heard():
            end_with_parent()
            return run(words[0], words[1:])
    except SystemExit as stop:  # argparse has printed the help
        return int(stop.code or 0)
    except Exception as error:
        reason = str(error) if isinstance(error, BonepipeError) else refusal(error)
        if traceback_wanted or reason is None:
            raise
        _end_bars()
        print(f"bonepipe {words[0]}: {reason}", file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 1


def _end_bars() -> None:
    if "tqdm" in sys.modules:  # else there is none
        from bonepipe.screen import end_bars

        end_bars()


def _stopped(command: str, stop: KeyboardInterrupt) -> int:
    """Say how to go on after an interruption."""
    _end_bars()
    begins = "\n" if sys.stderr is not None and sys.stderr.isatty() else ""  # behind ^C
    epochs = ", trainings from their last finished epoch" if command in ("train", *WITH_FOLDS) else ""
    name = signal_of(stop).name
    print(f"{begins}bonepipe {command}: stopped by {name}; the same command goes on{epochs}", file=sys.stderr)
    return exit_code(stop)
