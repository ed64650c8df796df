"""Processes that begin as a fork of the test's, which has imported PyTorch: longer than to train a tiny fold.

They are processes in every other way: of their own session, streams, folder and environment, and what kills one or asks
it to stop, it meets as ever. What is about the imports themselves is tested in new interpreters.
"""

import atexit
import contextlib
import multiprocessing.util
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import Any


def warm_children(patch: Any) -> None:
    """From now on `python -m bonepipe ...` and `python -c ...` are forks of this process; `patch` undoes it."""
    import torch

    if not torch.cuda.is_available():  # which no fork can use after its parent has
        patch.setattr(subprocess, "Popen", Warm)


class Warm(subprocess.Popen):  # type: ignore[type-arg]
    """A `Popen` whose commands need no new interpreter."""

    def _execute_child(self, args: Any, *options: Any) -> None:
        program = _program(args) if not isinstance(args, str | bytes) else None
        if program is None:
            super()._execute_child(args, *options)
            return
        _, _, _, _, cwd, env, _, _, _, *pipes = options[:15]
        new_session = options[-2]
        self.pid = os.fork()
        if not self.pid:
            own, others = (pipes[0], pipes[3], pipes[5]), (pipes[1], pipes[2], pipes[4])
            _become(program, own, others, cwd, env, new_session)
        self._child_created = True
        self._close_pipe_fds(*pipes)


def _program(words: Sequence[Any]) -> Callable[[], Any] | None:
    """What a command runs, where that is bonepipe or code on the command line."""
    executable, *rest = map(os.fspath, words)
    if executable != sys.executable or rest[:1] not in (["-m"], ["-c"]):
        return None
    flag, what, *arguments = rest
    if flag == "-m" and what != "bonepipe":
        return None

    def run() -> Any:
        sys.argv = [what if flag == "-m" else "-c", *arguments]
        if flag == "-m":
            from bonepipe.cli import main

            return main()
        return exec(compile(what, "<string>", "exec"), {"__name__": "__main__"})

    return run


def _become(
    program: Callable[[], Any],
    streams: Sequence[int],
    others: Sequence[int],
    cwd: Any,
    env: Mapping[Any, Any] | None,
    new_session: bool,
) -> None:
    """Be that program, in place of the test, to the end."""
    code: Any = 1
    try:
        if new_session:
            os.setsid()
        for number, stream in enumerate(streams):
            if stream != -1:
                os.dup2(stream, number)
        for pipe in others:
            if pipe != -1:
                os.close(pipe)
        if cwd is not None:
            os.chdir(cwd)
        if env is not None:
            os.environ.clear()
            os.environ.update({os.fsdecode(key): os.fsdecode(value) for key, value in env.items()})
        _forget_the_test()
        code = _ended(program)
    except BaseException:
        with contextlib.suppress(BaseException):
            traceback.print_exc()
    finally:  # whatever happens, nothing of the test goes on here
        with contextlib.suppress(BaseException):
            sys.stdout.flush()
        os._exit(code)


def _forget_the_test() -> None:
    """Streams, signals and what is done at the end as in a new process."""
    sys.stdin, sys.stdout = open(0, closefd=False), open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, errors="backslashreplace", closefd=False)  # noqa: SIM115
    sys.__stdout__, sys.__stderr__ = sys.stdout, sys.stderr
    for name in ("SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGALRM", "SIGPROF"):
        signal.signal(getattr(signal, name), signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    atexit._clear()  # the test's own are about its folders
    atexit.register(multiprocessing.util._exit_function)  # ends loader processes


def _ended(program: Callable[[], Any]) -> int:
    """Run a program; its exit code, as an interpreter makes one."""
    try:
        result = program()
    except SystemExit as stop:
        result = stop.code
        if isinstance(result, str):
            print(result, file=sys.stderr)
            result = 1
    except BaseException:
        traceback.print_exc()
        result = 1
    atexit._run_exitfuncs()
    return int(result or 0) & 0xFF
