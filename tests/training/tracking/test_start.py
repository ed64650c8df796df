import os
import re
import socket
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from bonepipe.training.tracking import Tracking
from bonepipe.training.tracking.login import place
from bonepipe.training.tracking.start import WAIT

KEY = "k" * 40
EPOCHS = [{"epoch": float(epoch), "step": 5.0 * (epoch + 1), "val/dice": epoch / 8} for epoch in range(3)]


def parts_of(folder, name="fold-0"):
    return sorted((folder / "wandb").glob(f"*run-*-{name}-*"))


def test_an_unknown_mode_is_refused():
    with pytest.raises(ValueError, match="mode='ofline'"):
        Tracking(mode="ofline")


@pytest.mark.parametrize("project", ["", "a/b", "50%", "x" * 129])
def test_a_project_that_wandb_would_refuse_is_refused(project):
    with pytest.raises(ValueError, match="project="):
        Tracking(project=project)


def test_wandbs_own_variable_is_understood_or_refused(tmp_path, no_login, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "bogus")
    with pytest.raises(ValueError, match="WANDB_MODE='bogus' is not online, offline"):
        Tracking()
    assert Tracking(mode="disabled").start("demo", "fold", "fold-0", {}, tmp_path).run is None
    monkeypatch.setenv("WANDB_MODE", "dryrun")  # an older word for offline
    Tracking().start("demo", "fold", "fold-0", {}, tmp_path).finish()
    assert len(parts_of(tmp_path)) == 1


def test_without_a_login_runs_are_offline_and_who_asked_for_online_is_told(no_login):
    assert place("auto") == ("offline", "")
    assert place("online")[0] == "offline"
    assert "no login for https://" in place("online")[1]


@pytest.mark.parametrize("url", [None, "https://wandb.example.org:8443"])
def test_the_netrc_that_wandb_login_writes_is_a_login(no_login, monkeypatch, url):
    if url:
        monkeypatch.setenv("WANDB_BASE_URL", url)
    command = [sys.executable, "-m", "wandb", "login", "--no-verify", KEY]
    written = subprocess.run(command, capture_output=True, text=True, check=False)
    assert KEY in (no_login / ".netrc").read_text(), written.stderr
    assert place("auto") == ("online", "")
    monkeypatch.setenv("WANDB_BASE_URL", "https://other.example.org")
    import wandb

    wandb.teardown()
    assert place("auto") == ("offline", "")


@pytest.mark.parametrize(
    ("variables", "where"),
    [
        ({"WANDB_API_KEY": KEY}, "online"),
        ({"WANDB_API_KEY": KEY, "WANDB_MODE": "offline"}, "offline"),
        ({"WANDB_API_KEY": KEY, "WANDB_MODE": "disabled"}, "disabled"),
        ({"WANDB_API_KEY": KEY, "WANDB_DISABLED": "true"}, "disabled"),
        ({"WANDB_IDENTITY_TOKEN_FILE": "token.jwt"}, "online"),
        ({"WANDB_API_KEY": "short"}, "offline"),
    ],
)
def test_variables_count(no_login, monkeypatch, variables, where):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert place("auto")[0] == where


@pytest.mark.parametrize("mode", ["offline", "disabled"])
def test_settings_files_count_as_wandb_offline_writes_them_and_the_setting_goes_first(no_login, monkeypatch, mode):
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    path = no_login / ".config" / "wandb" / "settings"
    path.parent.mkdir(parents=True)
    path.write_text(f"[default]\nmode = {mode}\n")
    assert place("auto") == (mode, "")
    assert place("online") == ("online", "")


class Refusing(BaseHTTPRequestHandler):
    """Knows no key."""

    def do_POST(self):
        self.send_response(401)
        self.end_headers()
        self.wfile.write(b'{"errors": [{"message": "user is not logged in"}]}')

    def log_message(self, *_):
        pass


@pytest.fixture
def refusing():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Refusing)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture
def black_hole():
    """Takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=50) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


USUAL = re.compile(r"tracking: fold-0 is tracked offline in \S+: numbers only ")  # and no cause
SCRIPT = f"""
import json, sys
from pathlib import Path
from bonepipe.training.tracking import Tracking, start
start.WAIT = float(sys.argv[2])
with Tracking().start("demo", "fold", "fold-0", {{}}, Path(sys.argv[1])) as run:
    run.epochs({EPOCHS!r})
    run.artifact("demo-fold-0", "fold", [Path(__import__("bonepipe").__file__)])
print("trained")
"""


def train(folder, wait=WAIT, **variables):
    """Track a run in a process of its own, whose output, exit and time count; returns what is odd on stderr."""
    environment = {**os.environ, "PYTHONPATH": str(Path.cwd()), **variables}
    command = [sys.executable, "-c", SCRIPT, folder, str(wait)]
    start = time.monotonic()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "trained\n"
    assert time.monotonic() - start < 13  # ten seconds, and what Python needs to start
    return [line for line in done.stderr.splitlines() if not USUAL.match(line)]


@pytest.mark.parametrize("server", ["refusing", "black_hole", "http://127.0.0.1:9", "https://nowhere.invalid"])
def test_a_server_that_cannot_be_had_costs_a_line_and_seconds(tmp_path, no_login, request, wandb_records, server):
    url = server if ":" in server else request.getfixturevalue(server)
    wait = WAIT if server == "black_hole" else 1
    (line,) = train(tmp_path / "a", wait, WANDB_BASE_URL=url, WANDB_API_KEY=KEY)
    assert line.startswith(f"tracking: fold-0 is tracked offline in {tmp_path / 'a' / 'wandb'} (CommError: ")
    (part,) = parts_of(tmp_path / "a")  # nothing is left of the attempt
    assert part.name.startswith("offline-")
    assert sum(record.HasField("history") for record in wandb_records(part)) == len(EPOCHS)


@pytest.mark.parametrize("home", ["/proc/nowhere", "/dev/null/home"])
def test_a_home_that_cannot_be_written_costs_nothing(tmp_path, no_login, home):
    assert train(tmp_path / "a", HOME=home) == []
    assert len(parts_of(tmp_path / "a")) == 1


def test_a_malformed_key_costs_a_line(tmp_path, no_login):
    (line,) = train(tmp_path / "a", WANDB_API_KEY="bad")
    assert "is tracked offline in" in line
    assert "(AuthenticationError: WANDB_API_KEY invalid: " in line
    assert len(parts_of(tmp_path / "a")) == 1


def test_a_folder_that_cannot_be_written_costs_a_line(tmp_path, no_login):
    (tmp_path / "file").touch()
    (line,) = train(tmp_path / "file" / "a")
    assert line.startswith("tracking: fold-0 is not tracked (NotADirectoryError: ")


def test_a_full_disk_costs_a_line(tmp_path, no_login, monkeypatch, capfd):
    monkeypatch.setattr("bonepipe.training.tracking.start.ROOM", 1 << 80)  # more than any disk has
    assert Tracking(mode="offline").start("demo", "fold", "fold-0", {}, tmp_path).run is None
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("tracking: fold-0 is not tracked (OSError: [Errno 28] less than ")
    assert parts_of(tmp_path) == []


def test_a_service_that_has_ended_costs_nothing(tmp_path, no_login):
    assert train(tmp_path / "a", WANDB_SERVICE="3-999999-unix-/tmp/gone.sock") == []
    assert len(parts_of(tmp_path / "a")) == 1


def test_wandb_that_is_not_installed_costs_a_line(tmp_path, no_login, monkeypatch, capfd):
    monkeypatch.setitem(sys.modules, "wandb", None)
    assert Tracking().start("demo", "fold", "fold-0", {}, tmp_path).run is None
    assert capfd.readouterr().err.startswith("tracking: fold-0 is not tracked (ModuleNotFoundError: ")


def run_record(part, wandb_records):
    return next(record.run for record in wandb_records(part) if record.HasField("run"))


def test_in_a_sweep_the_run_with_the_score_is_the_trial_and_others_have_ids_of_their_own(
    tmp_path, no_login, monkeypatch, wandb_records
):
    parameters = tmp_path / "config.yaml"
    parameters.write_text("optimizer.lr:\n  value: 0.5\nwandb_version: 1\n")
    given = {"SWEEP_ID": "sweep123", "RUN_ID": "trial456", "SWEEP_PARAM_PATH": str(parameters), "PROJECT": "search"}
    for name, value in {**given, "RESUME": "must", "MODE": "offline", "RUN_GROUP": "g", "NAME": "n"}.items():
        monkeypatch.setenv(f"WANDB_{name}", value)
    before = dict(os.environ)
    for kind, name in (("cross-validation", "cross-validation"), ("submission", "submission")):
        with Tracking().start("demo", kind, name, {"seed": 7}, tmp_path / "a") as run:
            run.summarise({"cv_mean": 0.5})
    places = dict.fromkeys(("WANDB_SERVICE", "WANDB_CACHE_DIR", "WANDB_DATA_DIR"), "")  # of W&B's process and its files
    assert dict(os.environ) | places == before | places
    (trial,) = (tmp_path / "a" / "wandb").glob("offline-run-*-trial456")
    (other,) = parts_of(tmp_path / "a", "submission")
    trial, other = run_record(trial, wandb_records), run_record(other, wandb_records)
    assert (trial.run_id, trial.sweep_id, trial.project, trial.run_group) == ("trial456", "sweep123", "search", "demo")
    assert (other.sweep_id, other.project, other.run_group) == ("", "search", "demo")
    assert {item.key or item.nested_key[0] for item in trial.config.update} >= {"optimizer.lr", "seed"}
    assert not any("optimizer.lr" in (item.key, *item.nested_key) for item in other.config.update)


def test_a_variable_that_names_one_run_does_not_make_all_runs_one(tmp_path, no_login, monkeypatch):
    monkeypatch.setenv("WANDB_RUN_ID", "mine")
    for name in ("fold-0", "fold-1"):
        Tracking(mode="offline").start("demo", "fold", name, {}, tmp_path).finish()
        assert len(parts_of(tmp_path, name)) == 1
