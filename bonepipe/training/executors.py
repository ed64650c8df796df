"""Where folds run: one after the other here, one a visible GPU, or as Ray tasks on one machine or a cluster.

An executor runs command lines and returns their exit codes in the same order; one that fails does not stop the others.
It runs command lines because a fold is a process of its own: it frees all its memory when it ends, and
killing it harms no other.
"""

import math
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from queue import Queue
from types import ModuleType
from typing import Any

from bonepipe.children import Children
from bonepipe.errors import BonepipeError, reason
from bonepipe.parallel import CORES, SHARERS, cores
from bonepipe.ranges import Amount, Count, Positive
from bonepipe.screen import say
from bonepipe.training.tracking.environment import outside_trial

Command = Sequence[str]


class Local:
    """Runs on this machine.

    Args:
        parallel: commands at once; null for one a visible GPU, or one where there is none.
    """

    def __init__(self, *, parallel: Count | None = None) -> None:
        if parallel is not None and parallel < 1:
            raise ValueError(f"parallel={parallel}: at least 1")
        self.parallel = parallel

    def rounds_after(self, count: int) -> list[int]:
        """For each of so many commands, how many of equal length its slot will run after it."""
        slots = self.parallel or at_once()
        return [(count - 1 - number) // slots for number in range(count)]

    def run(self, commands: Sequence[Command]) -> list[int]:
        """Run all, each with a GPU of its own where there are several."""
        count = min(self.parallel or at_once(), max(1, len(commands)))
        places = environments(count)

        def run_one(command: Command) -> int:
            place = places.get()
            try:
                return children.call(command, place)
            finally:
                places.put(place)

        with ThreadPoolExecutor(count) as pool, Children() as children:
            return list(pool.map(run_one, commands))


def at_once() -> int:
    """How many commands this machine runs at once unless it is told: one a visible GPU, or one where there is none."""
    return max(1, len(_visible_gpus()))


def environments(count: int) -> Queue[dict[str, str]]:
    """The environments of `count` commands at once, each with a GPU of its own where there are as many."""
    gpus = _visible_gpus()
    shared = {**environment(count), SHARERS: str(math.ceil(count / max(1, len(gpus))))}
    places: Queue[dict[str, str]] = Queue()
    for slot in range(count):
        places.put({**shared, "CUDA_VISIBLE_DEVICES": gpus[slot % len(gpus)]} if gpus else shared)
    return places


def environment(count: int) -> dict[str, str]:
    """The environment of each of `count` commands at once: its share of the cores, for threads and loader processes.

    A number of threads that the user has set stays. Where all commands belong to a trial of a sweep, none of them is
    the trial itself.
    """
    inherited = outside_trial(os.environ)
    return inherited if count == 1 else {**inherited, **_share(cores() // count, inherited)}


def _share(count: int, inherited: Mapping[str, str]) -> dict[str, str]:
    """What tells a command that it has so many cores."""
    number = str(max(1, count))
    return {CORES: number, "OMP_NUM_THREADS": inherited.get("OMP_NUM_THREADS", number)}


def _visible_gpus() -> list[str]:
    """Names of the GPUs that CUDA would see, as CUDA_VISIBLE_DEVICES takes them."""
    listed = os.environ.get("CUDA_VISIBLE_DEVICES")
    if listed is not None:
        return [name.strip() for name in listed.split(",") if name.strip()]
    import torch

    return [str(number) for number in range(torch.cuda.device_count())]


class Ray:
    """Runs as Ray tasks; on a cluster the project, the data and the runs must lie on storage that all nodes share.

    Args:
        address: of a running cluster; null starts Ray on this machine.
        cpus: that a fold reserves, its threads and loader processes among them; null for those of a GPU where it
            reserves one, else 1.
        gpus: that a fold reserves; null for one where the cluster has any.
    """

    def __init__(self, *, address: str | None = None, cpus: Positive | None = None, gpus: Amount | None = None) -> None:
        self.address, self.cpus, self.gpus = address, cpus, gpus

    def rounds_after(self, count: int) -> list[int]:
        """None that anybody could tell beforehand: the cluster runs as many at once as it has room for."""
        return [0] * count

    def run(self, commands: Sequence[Command]) -> list[int]:
        """Run all, as many at once as the resources allow."""
        try:
            import ray
        except ImportError as error:
            raise BonepipeError(
                "executor=ray: Ray is not installed; `make setup` or `pip install bonepipe[ray]`"
            ) from error
        ray.init(address=self.address, include_dashboard=False, log_to_driver=True, ignore_reinit_error=True)
        try:
            gpus = min(1, ray.cluster_resources().get("GPU", 0)) if self.gpus is None else self.gpus
            cpus = self.cpus
            if cpus is None:
                cpus = cores_of_a_gpu([node["Resources"] for node in ray.nodes() if node["Alive"]]) if gpus else 1
            task = ray.remote(num_cpus=cpus, num_gpus=gpus)(_call)
            folder = os.getcwd()  # noqa: PTH109 - a plain string travels to the worker
            at_once = math.ceil(1 / gpus) if 0 < gpus < 1 else 1  # on one GPU
            given = carried({**environment(1), SHARERS: str(at_once)})
            calls = [task.remote(list(command), folder, int(cpus), given) for command in commands]
            return [_code(ray, call) for call in calls]
        finally:
            ray.shutdown()


def carried(variables: Mapping[str, str]) -> dict[str, str]:
    """Those that the settings of a command depend on: a cluster's workers have the variables of `ray start`."""
    return {name: value for name, value in variables.items() if name.startswith(("BONEPIPE_", "WANDB_"))}


def _code(ray: ModuleType, call: Any) -> int:
    """The exit code of a task; 1 where its worker or node was lost, so that the others go on."""
    try:
        return int(ray.get(call))
    except ray.exceptions.RayError as error:
        say(f"warning: a Ray task was lost ({reason(error, 300)})")
        return 1


def cores_of_a_gpu(nodes: Sequence[Mapping[str, float]]) -> int:
    """Cores for each GPU on the node that has the fewest, so that a task fits on any; nodes by Ray's names."""
    return int(min((node.get("CPU", 0) // node["GPU"] for node in nodes if node.get("GPU")), default=1))


def _call(command: list[str], folder: str, cpus: int, given: Mapping[str, str]) -> int:
    """Run one command on so many cores in a folder, with the caller's variables; Ray has set the visible GPUs."""
    inherited = {**environment(1), **given}
    with Children() as children:
        return children.call(command, {**inherited, **_share(cpus, inherited)}, cwd=folder)
