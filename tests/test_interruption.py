"""Signals to real processes: what is said, the exit code, and what becomes of children."""

import os
import signal
import subprocess
import sys
import time

import pytest

from bonepipe import interruption
from bonepipe.children import Children
from bonepipe.interruption import Interrupted, heard, is_stopping
from bonepipe.training.executors import Local

WAIT = """
import os, sys, time
from bonepipe import cli
def run(command, words):
    try:
        os.write(1, {told})  # in one piece: others may write there, too
        time.sleep(60)
    finally:
        print("cleaned up", flush=True)
        {last}
cli.run = run
sys.exit(cli.main({words}))
"""
STOPS = ["SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2"]


def started(code, **options):
    pipe = subprocess.PIPE
    return subprocess.Popen([sys.executable, "-c", code], stdout=pipe, stderr=pipe, text=True, **options)


def waiting(command="score", last="", **options):
    """A process in the middle of a command."""
    process = started(WAIT.format(words=[command], last=last, told=b"ready\n"), **options)
    assert process.stdout.readline() == "ready\n"
    return process


def gone(pid, seconds=10):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            with open(f"/proc/{pid}/stat") as file:  # noqa: PTH123
                if file.read().rpartition(")")[2].split()[0] == "Z":
                    return True
        except OSError:
            return True
        time.sleep(0.05)
    return False


@pytest.mark.parametrize("name", STOPS)
def test_each_signal_that_asks_to_stop_is_one_line_and_128_more(name):
    process = waiting()
    process.send_signal(getattr(signal, name))
    out, told = process.communicate(timeout=20)
    assert process.returncode == 128 + getattr(signal, name)
    assert out == "cleaned up\n"
    assert told == f"bonepipe score: stopped by {name}; the same command goes on\n"


def test_an_error_of_the_stopping_does_not_hide_the_request():
    process = waiting(last="raise ValueError('a loader process was killed')")
    process.terminate()
    assert process.communicate(timeout=20)[1].startswith("bonepipe score: stopped by SIGTERM")
    assert process.returncode == 143


def test_a_training_says_where_it_goes_on():
    process = waiting("train")
    process.terminate()
    assert "the same command goes on, trainings from their last finished epoch" in process.communicate(timeout=20)[1]


def test_the_same_request_twice_does_not_cut_the_cleaning_short():
    process = waiting(last="time.sleep(1.5); print('all', flush=True)")
    process.send_signal(signal.SIGINT)
    assert process.stdout.readline() == "cleaned up\n"
    process.terminate()
    assert process.communicate(timeout=20)[0] == "all\n"
    assert process.returncode == 130


def test_a_second_ctrl_c_ends_all_at_once():
    process = waiting(last="time.sleep(60)")
    process.send_signal(signal.SIGINT)
    assert process.stdout.readline() == "cleaned up\n"
    process.send_signal(signal.SIGINT)
    assert process.wait(10) == -signal.SIGINT
    process.communicate()


class Dying:
    """Python tells and passes over whatever its destructor raises."""

    def __del__(self):
        signal.raise_signal(signal.SIGINT)


def test_a_request_that_a_destructor_swallows_stops_the_command_without_a_traceback(capsys):
    with pytest.raises(Interrupted), heard():
        Dying()
        time.sleep(20)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert not capsys.readouterr().err


def test_a_swallowed_request_is_not_made_of_a_command_that_is_over(monkeypatch):
    monkeypatch.setattr(interruption, "SOON", 0.2)
    later = []
    before = signal.signal(signal.SIGINT, lambda *request: later.append(request))
    try:
        with heard():
            Dying()
        time.sleep(0.4)
    finally:
        signal.signal(signal.SIGINT, before)
    assert not later


TWICE = """
import signal, time
from bonepipe import interruption
class Dying:
    def __del__(self):
        signal.raise_signal(signal.SIGINT)
interruption.SOON = 0.2
try:
    with interruption.heard():
        Dying()
        try:
            signal.raise_signal(signal.SIGTERM)
        finally:
            time.sleep(0.5)
except interruption.Interrupted as request:
    print(request)
"""


def test_a_swallowed_request_is_not_made_again_when_another_came_since():
    """As a second Ctrl-C it would end the cleaning."""
    process = started(TWICE)
    assert process.communicate(timeout=20)[0] == "SIGTERM\n"
    assert process.returncode == 0


def test_what_else_a_destructor_raises_is_told_as_ever(monkeypatch):
    told = []
    monkeypatch.setattr(sys, "unraisablehook", told.append)

    class Failing:
        def __del__(self):
            raise ValueError("no")

    with heard():
        Failing()
    assert [str(error.exc_value) for error in told] == ["no"]


def test_what_shall_be_ignored_is_ignored():
    """As by nohup."""
    process = waiting(preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
    process.send_signal(signal.SIGHUP)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.5)
    process.terminate()
    assert process.wait(10) == 143
    process.communicate()


def test_handlers_are_put_back_and_forks_end_as_ever():
    before = [signal.getsignal(number) for number in interruption.SIGNALS]
    with interruption.heard():
        assert [signal.getsignal(number) for number in interruption.SIGNALS] != before
        if (child := os.fork()) == 0:
            os.kill(os.getpid(), signal.SIGTERM)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGTERM
        with pytest.raises(KeyboardInterrupt) as caught:
            signal.raise_signal(signal.SIGTERM)
        assert interruption.exit_code(caught.value) == 143
    assert [signal.getsignal(number) for number in interruption.SIGNALS] == before
    assert interruption.exit_code(KeyboardInterrupt()) == 130


@pytest.mark.parametrize(("code", "name"), [(143, " (SIGTERM)"), (-9, " (SIGKILL)"), (1, ""), (0, ""), (255, "")])
def test_exit_codes_tell_signals(code, name):
    assert interruption.ending(code) == name


CHILD = WAIT.format(words=["train"], last="", told=r"b'%d\n' % os.getpid()")
FAMILY = f"""
import sys
from bonepipe import cli
from bonepipe.training.executors import Local
command = [sys.executable, "-c", {CHILD!r}]
cli.run = lambda *given: Local(parallel=2).run([command] * 3) and 0
sys.exit(cli.main(["train-all"]))
"""


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_an_executor_ends_its_commands_and_begins_no_other(name, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    process = started(FAMILY)
    children = [int(process.stdout.readline()) for _ in range(2)]
    process.send_signal(getattr(signal, name))
    out, told = process.communicate(timeout=20)
    assert process.returncode == 128 + getattr(signal, name)
    assert out.count("cleaned up") == 2
    assert f"bonepipe train-all: stopped by {name}; the same command goes on" in told
    assert all(gone(child) for child in children)


def test_children_end_with_a_parent_that_is_killed(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    process = started(FAMILY)
    children = [int(process.stdout.readline()) for _ in range(2)]
    process.kill()
    process.wait()
    assert all(gone(child) for child in children)
    process.communicate()


def test_one_whose_parent_is_gone_before_it_has_begun_ends_too():
    process = started(CHILD, env={**os.environ, interruption.PARENT: "1"})
    assert process.communicate(timeout=20)[1].startswith("bonepipe train: stopped by SIGTERM")
    assert process.returncode == 143


def test_a_child_that_does_not_stop_is_killed(monkeypatch):
    monkeypatch.setattr("bonepipe.children.GRACE", 0.3)
    stubborn = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(1, flush=True); time.sleep(60)"
    )
    with pytest.raises(KeyboardInterrupt), Children() as children:
        command = [sys.executable, "-S", "-c", stubborn]
        with children.started(command, stdout=subprocess.PIPE) as process:
            assert process.stdout.readline() == b"1\n"
            raise KeyboardInterrupt
    assert process.wait(10) == -signal.SIGKILL
    process.stdout.close()
    with pytest.raises(InterruptedError):
        children.call(["true"])


def test_an_error_leaves_other_commands_to_their_end(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert Local().run([[sys.executable, "-S", "-c", "raise SystemExit(3)"], ["true"]]) == [3, 0]
    with pytest.raises(ValueError, match="x"), Children() as children, children.started(["sleep", "0.2"]) as process:
        raise ValueError("x")
    assert process.wait(10) == 0


def test_what_fails_after_a_request_to_stop_fails_because_of_it():
    with pytest.raises(Interrupted), heard():
        assert not is_stopping()
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(5)
        except Interrupted:
            assert is_stopping()
            raise RuntimeError("a loader process is gone") from None
    assert not is_stopping()
