import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bonepipe import parallel
from bonepipe.training import executors
from bonepipe.training.executors import Local, Ray, cores_of_a_gpu

BARRIER = """
import sys, time
from pathlib import Path
me, other = Path(sys.argv[1]), Path(sys.argv[2])
me.touch()
end = time.monotonic() + 20
while not other.exists():
    if time.monotonic() > end:
        sys.exit(9)
    time.sleep(0.02)
"""
NOTE_GPU = """
import os, sys, time
from pathlib import Path
folder, name = Path(sys.argv[1]), sys.argv[2]
(folder / name).write_text(os.environ["CUDA_VISIBLE_DEVICES"])
end = time.monotonic() + 20
while len(list(folder.iterdir())) < 2:
    if time.monotonic() > end:
        sys.exit(9)
    time.sleep(0.02)
"""


def python(code, *arguments):
    return [sys.executable, "-S", "-c", code, *map(str, arguments)]


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")


def test_local_returns_exit_codes_in_order_and_a_failure_stops_nothing(tmp_path):
    commands = [python(f"open({str(tmp_path / str(n))!r}, 'w'); raise SystemExit({n})") for n in (0, 3, 0, 7)]
    assert Local().run(commands) == [0, 3, 0, 7]
    assert len(list(tmp_path.iterdir())) == 3
    assert Local().run([]) == []


def test_local_runs_one_after_the_other_where_there_is_no_gpu(tmp_path):
    order = tmp_path / "order"
    word = "f.write(sys.argv[2] + ' '); f.flush()"
    code = f"import sys\nwith open(sys.argv[1], 'a') as f: {word}; {word}"
    assert Local().run([python(code, order, number) for number in range(4)]) == [0] * 4
    assert order.read_text().split() == ["0", "0", "1", "1", "2", "2", "3", "3"]


def test_parallel_commands_overlap(tmp_path):
    a, b = tmp_path / "a", tmp_path / "b"
    assert Local(parallel=2).run([python(BARRIER, a, b), python(BARRIER, b, a)]) == [0, 0]


NOTE_SHARE = """
import os, sys
from pathlib import Path
names = "OMP_NUM_THREADS", "BONEPIPE_CORES"
Path(sys.argv[1]).write_text(" ".join(os.environ.get(name, "not set") for name in names))
"""


def test_commands_at_once_share_the_cores(tmp_path, monkeypatch):
    monkeypatch.setattr(parallel.os, "sched_getaffinity", lambda _: set(range(7)), raising=False)
    for name in ("OMP_NUM_THREADS", "BONEPIPE_CORES"):
        monkeypatch.delenv(name, raising=False)

    def shares(slots, commands):
        folder = tmp_path / f"{slots}-{commands}"
        folder.mkdir()
        assert (
            Local(parallel=slots).run([python(NOTE_SHARE, folder / str(n)) for n in range(commands)]) == [0] * commands
        )
        (share,) = {path.read_text() for path in folder.iterdir()}
        return share

    assert shares(1, 2) == "not set not set"
    assert shares(3, 3) == shares(3, 4) == shares(8, 3) == "2 2"  # two of eight slots stay empty
    assert shares(9, 8) == "1 1"
    assert shares(3, 1) == "not set not set"
    monkeypatch.setenv("OMP_NUM_THREADS", "4")  # which the user has set for each
    monkeypatch.setenv("BONEPIPE_CORES", "6")  # and this for all together
    assert shares(3, 5) == "4 2"


def test_a_folds_threads_and_loader_processes_keep_to_its_share(tmp_path, monkeypatch):
    """A fold of four on eight cores: PyTorch's threads, and what `trainer.workers=null` starts."""
    monkeypatch.setattr(parallel.os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    code = (
        "import os, sys\nos.sched_getaffinity = lambda _: set(range(8))\nimport torch\n"
        "from bonepipe.data.datamodule import FoldDataModule\n"
        "data = FoldDataModule(None, 0, None, batch_size=1, workers=None, seed=0)\n"
        "open(sys.argv[1], 'w').write(f'{torch.get_num_threads()} {data.workers}')"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "fold")]
    env = {**executors.environment(4), "PYTHONPATH": os.pathsep.join(sys.path)}
    assert subprocess.run(command, env=env, check=False).returncode == 0
    assert (tmp_path / "fold").read_text() == "2 2"


def test_every_command_gets_a_visible_gpu_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,GPU-9")
    assert Local().run([python(NOTE_GPU, tmp_path, name) for name in "abcd"]) == [0] * 4
    assert {path.read_text() for path in tmp_path.iterdir()} == {"5", "GPU-9"}
    first = {(tmp_path / name).read_text() for name in "ab"}  # both ran before either could end
    assert first == {"5", "GPU-9"}


def test_gpus_are_handed_out_round_robin_when_more_run_at_once_than_there_are(tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,4")
    code = NOTE_GPU.replace("< 2", "< 4")  # all four run at once
    assert Local(parallel=4).run([python(code, tmp_path, name) for name in "abcd"]) == [0] * 4
    assert sorted(path.read_text() for path in tmp_path.iterdir()) == ["3", "3", "4", "4"]


def test_visible_gpus_are_those_that_cuda_would_see(monkeypatch):
    import torch

    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2, 0")
    assert executors._visible_gpus() == ["2", "0"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert executors._visible_gpus() == []
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    assert executors._visible_gpus() == ["0", "1", "2"]


def test_at_least_one_command_at_once():
    with pytest.raises(ValueError, match="parallel=0"):
        Local(parallel=0)


def test_ray_runs_commands_here_and_returns_their_codes(tmp_path, monkeypatch):
    pytest.importorskip("ray")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    code = "import sys, pathlib; pathlib.Path(sys.argv[1]).touch(); sys.exit(int(sys.argv[2]))"
    start = time.monotonic()
    lost = python("import os, signal; os.kill(os.getppid(), signal.SIGKILL)")
    assert Ray(cpus=0.5).run([python(code, "a", 0), lost, python(code, "b", 5)]) == [0, 1, 5]
    assert time.monotonic() - start < 120
    assert {path.name for path in Path().iterdir()} == {"a", "b"}  # relative to the folder that the user is in


def test_ray_that_is_not_installed_is_named(monkeypatch):
    from bonepipe.errors import BonepipeError

    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(BonepipeError, match="Ray is not installed"):
        Ray().run([])


def test_rounds_that_follow_a_command(monkeypatch):
    assert Local(parallel=1).rounds_after(3) == [2, 1, 0]
    assert Local(parallel=2).rounds_after(5) == [2, 1, 1, 0, 0]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2")
    assert Local().rounds_after(4) == [1, 0, 0, 0]
    assert Ray().rounds_after(3) == [0, 0, 0]  # as many at once as the cluster has room for


def test_a_task_of_ray_reserves_the_cores_of_its_gpu():
    nodes = [{"CPU": 32.0, "GPU": 4.0}, {"CPU": 13.0, "GPU": 2.0}, {"CPU": 4.0}, {"memory": 9.0}]
    assert cores_of_a_gpu(nodes) == 6  # on the second node two tasks fit
    assert cores_of_a_gpu(nodes[2:]) == 1
    assert cores_of_a_gpu([{"CPU": 1.0, "GPU": 2.0}]) == 0  # which Ray always grants


def test_a_command_of_ray_knows_the_cores_that_it_has_reserved(tmp_path, monkeypatch):
    for name in ("OMP_NUM_THREADS", "BONEPIPE_CORES"):
        monkeypatch.delenv(name, raising=False)
    for cpus, expected in ((0, "1 1"), (6, "6 6")):
        given = {"BONEPIPE_CORES": "99"}  # the caller's, on another machine
        assert executors._call(python(NOTE_SHARE, tmp_path / "share"), str(tmp_path), cpus, given) == 0
        assert (tmp_path / "share").read_text() == expected


def test_a_command_of_ray_has_the_callers_settings(tmp_path, monkeypatch):
    """A cluster's workers have the variables of `ray start`."""
    monkeypatch.setenv("WANDB_MODE", "online")
    given = executors.carried(
        {"WANDB_MODE": "disabled", "BONEPIPE_CONF": "/mine", "CUDA_VISIBLE_DEVICES": "7", "A": "b"}
    )
    assert given == {"WANDB_MODE": "disabled", "BONEPIPE_CONF": "/mine"}
    code = "import os, sys; open(sys.argv[1], 'w').write(os.environ['WANDB_MODE'] + os.environ['BONEPIPE_CONF'])"
    assert executors._call(python(code, tmp_path / "told"), str(tmp_path), 1, given) == 0
    assert (tmp_path / "told").read_text() == "disabled/mine"


@pytest.mark.parametrize(("gpus", "count", "expected"), [("", 3, "3"), ("0", 2, "2"), ("0,1", 3, "2"), ("0,1", 2, "1")])
def test_commands_know_how_many_share_their_device(monkeypatch, gpus, count, expected):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", gpus)
    places = executors.environments(count)
    assert {places.get()["BONEPIPE_SHARERS"] for _ in range(count)} == {expected}
