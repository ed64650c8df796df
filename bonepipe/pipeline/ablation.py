"""What each technique, or each step to the submission, gains and costs: rows of commands, each run once.

```yaml
base: experiment=demo tracking=none  # stands for {base} in commands
seeds: [0, 1, 2]                     # every row once a seed, compared with another of the same seed; or leave it out
over: base                           # the row that each is compared with (default: the one before)
rows:
  - {name: base, train: ""}
  - {name: BCE, group: loss, train: loss=bce}  # fold 0 with the base's settings and these, at once with others
  - name: five folds                           # commands that build on those of the rows before, one after another
    commands: ["train-all {base} runs={runs}", "submit {base} runs={runs}"]
    run: demo                                  # below {runs}: the folder whose scores count
    more: true                                 # only when it is asked for
```
"""

import contextlib
import os
import shlex
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from queue import Queue
from typing import Any

import numpy as np
from typing_extensions import TypedDict

from bonepipe import config as configs
from bonepipe.children import BONEPIPE, Children
from bonepipe.data.store import DIGESTS
from bonepipe.digests import combined, digests
from bonepipe.errors import BonepipeError, UsageError, suggestion
from bonepipe.files import find_files, write_json
from bonepipe.forms import read_json
from bonepipe.parallel import cores
from bonepipe.pipeline.comparison import TOTALS, read_dice, read_totals
from bonepipe.pipeline.experiment import Experiment, resolve_device, say
from bonepipe.pipeline.run_folder import read_fingerprint
from bonepipe.pipeline.steps import FILES, without
from bonepipe.training.executors import at_once, environments

RESULTS = "ablation.json"  # digest of a row's commands and of those before -> its scores and costs
APART = ("data.root", "folds.file")  # of FILES: folders, and what a command makes where it is missing
CHANGES_NOTHING = ("runs", "device", "executor", "tracking", "search", "cam", "trainer.workers")  # of what is measured


@dataclass(frozen=True, kw_only=True)
class Row:
    """A line of the table.

    Attributes:
        name: what was changed or added; no two have the same.
        group: of changes, for people.
        train: settings of a training of fold 0, beside the base's; None for a row of commands.
        commands: bonepipe's commands in order.
        run: the run whose scores count; {seed} stands for the seed.
        over: the row that it is compared with; None for none.
        more: whether it is left out unless it is asked for.
    """

    __pydantic_config__ = configs.STRICT

    name: str
    group: str = ""
    train: str | None = None
    commands: tuple[str, ...] = ()
    run: str | None = None
    over: str | None = None
    more: bool = False

    def __post_init__(self) -> None:
        if (self.train is None) != bool(self.commands and self.run):
            raise ValueError(f"{self.name}: needs `train`, or `commands` and `run`")


@dataclass(frozen=True, kw_only=True)
class Ablation:
    """Rows, and what they have in common; see the module's head."""

    __pydantic_config__ = configs.STRICT

    base: str
    rows: tuple[Row, ...]
    seeds: tuple[int, ...] | None = None
    over: str | None = None

    def __post_init__(self) -> None:
        names = [row.name for row in self.rows]
        if not names or len(set(names)) < len(names):
            raise ValueError("rows: at least one, and no two of a name")
        for name in (self.over, *(row.over for row in self.rows)):
            if name is not None and name not in names:
                raise ValueError(f"over: there is no row {name!r}{suggestion(name, names)}")
        if self.seeds == ():
            raise ValueError("seeds: name some, or leave them out")
        for row in self.rows if len(self.seeds or ()) > 1 else ():
            if row.run is not None and "{seed}" not in row.run:
                raise ValueError(f"{row.name}: run: {row.run}: one for each seed, so let {{seed}} stand in its name")

    @cached_property
    def compared(self) -> list[Row]:
        """The rows, each with the one that it is compared with."""
        result: list[Row] = []
        for row in self.rows:
            over = row.over or self.over or (result[-1].name if result else None)
            result.append(replace(row, over=None if over == row.name else over))
        return result


class Result(TypedDict):
    """What is kept of a row, beside its scores and costs."""

    row: str
    run: str


@dataclass(frozen=True)
class Task:
    """A row at a seed, ready to run.

    Attributes:
        row, seed: which; the seed is None where the file names none.
        commands: lists of words.
        run: the folder whose scores count.
        digest: of the resolved settings of its commands, and of those before that it builds on.
    """

    row: Row
    seed: int | None
    commands: tuple[tuple[str, ...], ...]
    run: Path
    digest: str


def find(name: str) -> Path:
    """A file of this name, or that of conf/ablation. Raises UsageError where there is neither."""
    folder = configs.conf_dir() / "ablation"
    path = next((path for path in (Path(name), folder / f"{name}.yaml") if path.is_file()), None)
    if path is None:
        known = [file.stem for file in find_files(folder, (".yaml",))]
        raise UsageError(f"{name}: no such file{suggestion(name, known)}; conf/ablation has {', '.join(known)}")
    return path


def read(path: Path) -> Ablation:
    """Read a file of rows. Raises UsageError naming the field that is missing or wrong."""
    return configs.read_as(Ablation, path, "an ablation", UsageError)


def tasks(ablation: Ablation, runs: Path) -> list[Task]:
    """Every row at every seed. Raises UsageError for a misspelt setting in any of them; nothing has been run yet."""
    _contents.cache_clear()
    _known_folds.clear()
    return [task for seed in ablation.seeds or (None,) for task in _at_seed(ablation, runs, seed)]


def _at_seed(ablation: Ablation, runs: Path, seed: int | None) -> Iterator[Task]:
    base, plain, more = shlex.split(ablation.base), [], []  # type: ignore[var-annotated]
    for row in ablation.compared:
        if row.train is not None:
            yield _training(row, [*base, *shlex.split(row.train)], runs, seed)
            continue
        commands = tuple(tuple(_filled(shlex.split(text), base, runs, seed)) for text in row.commands)
        (run,) = _filled([str(row.run)], (), runs, seed)
        history = more if row.more else plain
        history += [_settled(command, runs) for command in commands]
        # Nothing depends on further rows but further rows.
        yield Task(row, seed, commands, runs / run, combined([run, *plain, *(more if row.more else ())]))


def _training(row: Row, words: Sequence[str], runs: Path, seed: int | None) -> Task:
    """A training of its own, in a folder that carries its digest: other settings are another run."""
    command = ["train", "fold=0", *words, *([] if seed is None else [f"seed={seed}"]), f"runs={runs}", "name=ablation"]
    digest = combined([_settled(command, runs)])
    letters = "".join(c if c.isalnum() else " " for c in f"{row.group} {row.name}".lower())
    name = "-".join([*letters.split(), *([] if seed is None else [str(seed)]), digest[:8]])
    return Task(row, seed, ((*command[:-1], f"name={name}"),), runs / name, digest)


def _filled(words: Sequence[str], base: Sequence[str], runs: Path, seed: int | None) -> Iterator[str]:
    for word in words:
        if word == "{base}":
            yield from _filled(base, (), runs, seed)
        else:
            yield word.replace("{runs}", str(runs)).replace("{seed}", str(seed))


def _settled(command: Sequence[str], runs: Path) -> list[Any]:
    """A command with its settings as they are resolved: edited data or an edited file of conf/ make it another one."""
    name, *words = command
    if not all("=" in word and not word.startswith("-") for word in words):
        return [*command]
    config = configs.compose(words)
    return [name, without(config, CHANGES_NOTHING), _contents_named(config, runs)]


def _contents_named(config: configs.Config, runs: Path) -> list[Any]:
    """Digests of the datasets and files that settings name; what lies in `runs` is made by rows, and follows them."""
    experiment, settings = Experiment(config), configs.flatten(config)
    cached, more = experiment.store_folder / DIGESTS, config["data"].get("external") or ()
    roots = [Path(root) for root in (config["data"]["root"], *(dataset["root"] for dataset in more))]
    named = {key: Path(settings[key]) for key in FILES if key not in APART and settings.get(key) is not None}
    files = {key: path for key, path in named.items() if path.is_file() and not path.is_relative_to(runs)}
    contents = dict(zip(files, digests(files.values(), cached), strict=True))
    return [*(_contents(root, cached) for root in roots), contents, _fold_file(experiment, cached)]


_known_folds: dict[str, str | None] = {}


def _fold_file(experiment: Experiment, cached: Path) -> str | None:
    """A digest of the fold file, made first where it is missing; None where that fails, as a training will say."""
    asked = combined([experiment.config[group] for group in ("data", "folds", "strata")])
    if asked not in _known_folds:
        try:
            _ = experiment.cohort.assignment
            (_known_folds[asked],) = digests([Path(experiment.folds.file)], cached)
        except BonepipeError:
            _known_folds[asked] = None
    return _known_folds[asked]


@cache
def _contents(root: Path, cached: Path) -> str:
    """A digest of all files of a dataset; those of each are cached."""
    files = find_files(root)
    return combined([[str(path.relative_to(root)) for path in files], digests(files, cached)])


def run(todo: Sequence[Task], runs: Path, more: bool, jobs: int | None) -> dict[str, dict[str, Any]]:
    """Run what has not been run, trainings several at once; returns digest -> scores and costs of all that is done.

    Args:
        todo: all rows.
        runs: folder of the runs and of the results, which are kept from call to call.
        more: whether further rows are run, too.
        jobs: trainings at once; None for one a GPU, or one a core without any.

    Raises:
        BonepipeError: a command fails.
    """
    path = runs / RESULTS
    known: dict[str, Any] = {}
    if path.is_file():
        known.update(read_json(path, dict[str, Result], "move it away, and the rows are run again"))
    asked = {task.digest: task for task in todo}  # rows with the same settings are one
    done = {digest: known[digest] for digest in asked if digest in known and (runs / known[digest]["run"]).is_dir()}
    missing = [task for task in asked.values() if task.digest not in done and (more or not task.row.more)]
    for task, costs in _work(missing, runs, jobs):
        done[task.digest] = {"row": task.row.name, "run": task.run.name, **costs, **_scores(task.run)}
        write_json(path, known := {**known, **done})
    return done


def _work(missing: Sequence[Task], runs: Path, jobs: int | None) -> Iterator[tuple[Task, dict[str, float]]]:
    """Run tasks; yields each with its costs when it is done, with none where an earlier call did a part of it."""
    trainings = [task for task in missing if task.row.train is not None]
    if trainings:
        number = jobs or (cores() if resolve_device("auto") == "cpu" else at_once())
        places = environments(number)
        say(f"{len(trainings)} runs to train, {number} at once")
        with ThreadPoolExecutor(number) as pool, Children() as children:
            waiting = {pool.submit(_train, children, task, runs, places): task for task in trainings}
            try:
                for number, future in enumerate(as_completed(waiting), 1):
                    yield waiting[future], future.result()
                    _begun(runs, waiting[future]).unlink()  # whoever asked has written the result down
                    say(f"{number} of {len(trainings)}: {waiting[future].run}")
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
    for task in missing:
        if task.row.train is None:
            say(f"== {task.row.name}")
            with Children() as children, _noted(runs, task) as begun:
                costs = [_run(children, command, task.row.name) for command in task.commands]
            yield task, {} if begun else {key: sum(cost[key] for cost in costs) for key in costs[0]}
            _begun(runs, task).unlink()


def _train(children: Children, task: Task, runs: Path, places: Queue[dict[str, str]]) -> dict[str, float]:
    """Train a fold at a free place, with a log of its own."""
    task.run.mkdir(parents=True, exist_ok=True)
    place = places.get()
    try:
        with (task.run / "log.txt").open("a", encoding="utf-8") as log, _noted(runs, task) as begun:
            title = f"{task.row.name} ({task.run / 'log.txt'})"
            costs = _run(children, task.commands[0], title, env=place, stdout=log, stderr=log)
    finally:
        places.put(place)
    if "out_of_fold" not in read_fingerprint(task.run / "fold-0"):
        raise BonepipeError(f"{title}: ended without results; see what it says, mend it and go on")
    return {} if begun else costs


@contextlib.contextmanager
def _noted(runs: Path, task: Task) -> Iterator[bool]:
    """Note that a task is begun; tells whether a call before this one began it and was stopped before its result."""
    note = _begun(runs, task)
    begun = note.is_file()
    note.parent.mkdir(parents=True, exist_ok=True)
    note.touch()
    yield begun


def _begun(runs: Path, task: Task) -> Path:
    """The file that says that a task was begun, until its result is written."""
    return runs / f".begun-{task.digest}"


def _run(children: Children, command: Sequence[str], title: str, **options: Any) -> dict[str, float]:
    """Run a command; gives the seconds it took, and those that cores worked on it."""
    start = time.perf_counter()
    with children.started([*BONEPIPE, *command], **options) as process:
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise BonepipeError(f"{title}: `bonepipe {shlex.join(command)}` failed; see what it says, mend it and go on")
    return {"seconds": time.perf_counter() - start, "core_seconds": used.ru_utime + used.ru_stime}


def _scores(run: Path) -> dict[str, float]:
    """The scores that a run has, or else the mean Dice of its folds' out-of-fold predictions at threshold 0.5."""
    totals = read_totals(run / "scores.json")
    if totals:
        return totals
    dice = [value for path in sorted(run.glob("fold-*/oof_dice.csv")) for value in read_dice(path).values()]
    if not dice:
        raise BonepipeError(f"{run}: no scores; the row's commands must write them")
    return {TOTALS[0]: float(np.mean(dice))}
