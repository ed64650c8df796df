"""Commands that run as a part of this one, and end with it however it ends."""

import contextlib
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from bonepipe.interruption import PARENT

GRACE = 20.0  # seconds that children have to clean up; SLURM leaves 30 to all
BONEPIPE = (sys.executable, "-m", "bonepipe")


class Children:
    """A context that ends the processes which still run in it where an interruption leaves it; threads may share it."""

    def __init__(self) -> None:
        self._running: set[subprocess.Popen[Any]] = set()
        self._lock, self._over = threading.Lock(), False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is not None and not issubclass(kind, Exception):
            self.end()

    @contextlib.contextmanager
    def started(
        self, command: Sequence[str], env: Mapping[str, str] | None = None, **options: Any
    ) -> Iterator[subprocess.Popen[Any]]:
        """Start a command; whoever asks waits for its end.

        Args:
            command: its words; a command of bonepipe also ends by itself when this process is gone.
            env: its environment; None for that of this process.
            options: of `subprocess.Popen`.
        """
        environment = {**(os.environ if env is None else env), PARENT: str(os.getpid())}
        with self._lock:
            if self._over:
                raise InterruptedError(f"not started, because all is ending: {command[0]}")
            process = subprocess.Popen(command, env=environment, **options)
            self._running.add(process)
        try:
            yield process
        finally:
            if process.returncode is not None:
                with self._lock:
                    self._running.discard(process)

    def call(self, command: Sequence[str], env: Mapping[str, str] | None = None, **options: Any) -> int:
        """Run a command and return its exit code, below 0 where a signal ended it."""
        with self.started(command, env, **options) as process:
            return process.wait()

    def end(self) -> None:
        """Ask all to stop, and kill what does not."""
        with self._lock:
            self._over, running = True, list(self._running)
        for process in running:
            process.terminate()
        for process in running:
            try:
                process.wait(GRACE)
            except subprocess.TimeoutExpired:
                process.kill()
