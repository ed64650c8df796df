"""What lies in a run's folder, what each result was made from, and whether it still is: one reader, one rule, one lock.

Every step (a trained fold, its out-of-fold predictions, a cross-validation, a submission) leaves an entry in the
fingerprint.json of its folder: the settings that matter, digests of the contents of all files that it was made from,
the versions of the libraries, and digests of what it wrote. Whoever wants a result compares: what is current is done
already, what is stale and cheap is done again, what is stale and expensive is refused with the name of what changed.
"""

import contextlib
import errno
import json
import os
import re
import shutil
import socket
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bonepipe import config as configs
from bonepipe import versions
from bonepipe.digests import digest, digests
from bonepipe.errors import BonepipeError, UsageError, reason, suggestion
from bonepipe.files import replacing, write_json
from bonepipe.forms import fitting, read_json
from bonepipe.leftovers import part_of, sweep
from bonepipe.pipeline.records import Cascade, Entry, MadeFrom, Scores, Training

CONFIG, FINGERPRINT, THRESHOLDS, SCORES = "config.yaml", "fingerprint.json", "thresholds.json", "scores.json"
SUBMISSION, BATCH_SIZE = "submission.csv", "batch_size.json"
CHECKPOINT, WEIGHTS, METRICS = "last.ckpt", "weights.safetensors", "metrics.csv"  # of a fold
ENSEMBLE, CASCADE = "ensemble.yaml", "cascade.json"  # what makes a folder without folds an ensemble or a cascade
KINDS = {ENSEMBLE: "an ensemble", CASCADE: "a cascade"}
ANEW = "move it away, and `bonepipe train-all` writes it anew, or the command that made an ensemble or a cascade"
KEYS = {CONFIG: {*configs.PLAIN_KEYS, *configs.GROUPS}, ENSEMBLE: {"members"}}  # of files that people may edit

Inputs = dict[str, Any]  # `settings`: nested as in a config; any other key: name -> digest or plain value


@dataclass(frozen=True)
class Step:
    """A result, what it is made from, and what of it is written.

    Attributes:
        folder: that holds the files and fingerprint.json.
        name: of the entry in fingerprint.json.
        inputs: what the result depends on, as it is now.
        outputs: names of the files that it consists of.
        cache: of digests, see `bonepipe.digests`.
    """

    folder: Path
    name: str
    inputs: Inputs
    outputs: tuple[str, ...]
    cache: Path

    @property
    def recorded(self) -> dict[str, Any] | None:
        """The entry in fingerprint.json; None where the step was never begun."""
        return read_fingerprint(self.folder).get(self.name)

    def changes(self) -> list[str]:
        """What the result was made from and is not what it was, in words; empty where nothing was made yet.

        What `inputs` leaves out altogether is not asked for.
        """
        record = self.recorded
        if record is None:
            return []
        with blamed(self.folder):
            return differences({key: record["inputs"].get(key, {}) for key in self.inputs}, self.inputs)

    def damage(self) -> list[str]:
        """The files of the result that are missing, or not as they were written.

        What people may edit (a dataset that moved, a member's weight) need only be whole: `changes` tells what differs.
        Earlier versions took no note of these files.
        """
        record = self.recorded
        then = {} if record is None else record["outputs"]
        changed = [name for name, now in self._written().items() if now is None or now != then.get(name)]
        editable = [name for name in changed if name in KEYS and (self.folder / name).is_file()]
        return [
            name for name in changed if name not in editable or (name in then and not _is_whole(self.folder / name))
        ]

    @property
    def current(self) -> bool:
        """Whether the result is there, whole, and made from what is there now."""
        return self.recorded is not None and not self.damage() and not self.changes()

    def record(self) -> None:
        """Note what the result is made from; when it is begun and, once more, when all of it is written."""
        entry = {"inputs": self.inputs, "outputs": self._written(), "versions": versions.installed()}
        write_json(self.folder / FINGERPRINT, {**read_fingerprint(self.folder), self.name: entry}, indent=1)

    def _written(self) -> dict[str, str | None]:
        paths = {name: self.folder / name for name in self.outputs}
        there = [path for path in paths.values() if path.is_file()]
        known = dict(zip(there, digests(there, self.cache), strict=True))
        return {name: known.get(path) for name, path in paths.items()}


def _is_whole(path: Path) -> bool:
    """Whether a YAML file that people may edit can be read and has all its keys."""
    try:
        return KEYS[path.name] <= configs.read(path).keys()
    except BonepipeError:
        return False


def read_fingerprint(folder: Path) -> dict[str, Any]:
    """Step -> its entry; empty where nothing was made yet. Raises BonepipeError where the file is damaged."""
    try:
        return dict(read_json(folder / FINGERPRINT, dict[str, Entry[MadeFrom]], _nobody_knows(folder)))
    except FileNotFoundError:
        return {}


def _nobody_knows(folder: Path) -> str:
    trained = any((folder / name).exists() for name in (WEIGHTS, CHECKPOINT))
    least = "delete the fold's folder to train it anew" if trained else "delete this file: all is made anew"
    return f"nobody can tell what this folder's results were made from; put back a copy, or {least}"


def read_training(folder: Path) -> Training | None:
    """What a fold was trained on; None where it was not. Raises BonepipeError where fingerprint.json is damaged."""
    entry = read_fingerprint(folder).get("training")
    try:
        return None if entry is None else fitting(entry, Training)
    except ValueError as error:
        raise BonepipeError(f"{folder / FINGERPRINT}: training.{error}; {_nobody_knows(folder)}") from error


@contextlib.contextmanager
def blamed(folder: Path) -> Iterator[None]:
    """Say of settings that no version knows that a folder's fingerprint.json has them, as a BonepipeError."""
    try:
        yield
    except UsageError as error:
        where = folder / FINGERPRINT
        raise BonepipeError(f"{where}: cannot be read ({reason(error)}); {_nobody_knows(folder)}") from error


def differences(before: Inputs, now: Inputs) -> list[str]:
    """What differs between the inputs of two times, a line each: settings first, then files."""
    before, now = ({"settings": {}, **part} for part in (before, json.loads(json.dumps(now))))
    changed = configs.differences(before.pop("settings"), now.pop("settings"))
    lines = [f"{key}: {old!r} -> {new!r}" for key, (old, new) in changed.items()]
    old, new = (configs.flatten({key: part for key, part in inputs.items() if part != {}}) for inputs in (before, now))
    for key in sorted(old.keys() | new.keys()):
        if old.get(key) != new.get(key):
            how = "is new" if key not in old else "is gone" if key not in new else "has changed"
            lines.append(f"{key.partition('.')[2] or key} {how}")
    return lines


def shortened(lines: Sequence[str], most: int = 5) -> str:
    """The first lines, indented, and how many there are beside."""
    more = [f"  and {len(lines) - most} more"] if len(lines) > most else []
    return "\n".join([*(f"  {line}" for line in lines[:most]), *more])


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Work in a folder alone. Raises BonepipeError, naming who works there, where another process does."""
    from filelock import FileLock, Timeout

    folder.mkdir(parents=True, exist_ok=True)
    path, owner = folder / ".lock", folder / ".lock.owner"
    try:
        with FileLock(path, timeout=0):
            sweep(folder)
            _sign(owner)
            yield
            owner.unlink(missing_ok=True)
    except Timeout as error:
        who = owner.read_text(encoding="utf-8") if owner.is_file() else "another process"
        raise BonepipeError(f"{folder}: {who} works here; wait for it, or stop it first") from error


def _sign(owner: Path) -> None:
    """Say who works here; on a full disk nobody says so, and `clean` gets to work."""
    try:
        with replacing(owner) as part:  # a link that came with the folder is not written through
            part.write_text(f"process {os.getpid()} on {socket.gethostname()}", encoding="utf-8")
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise


def save_config(config: Mapping[str, Any], folder: Path) -> None:
    """Record a run's resolved config.

    The folds that vote are not recorded: they are one call's choice, and who uses the run by its folder asks them all.
    """
    configs.save({**config, "prediction": {**config["prediction"], "folds": None}}, folder / CONFIG)


def kind_of(folder: Path) -> str:
    """`run`, `ensemble` or `cascade`.

    Raises:
        BonepipeError: there is no such folder, or none of them in it.
    """
    if not folder.is_dir():
        near = [path.name for path in folder.parent.glob("*") if path.is_dir()] if folder.parent.is_dir() else []
        raise BonepipeError(f"{folder}: no such folder{suggestion(folder.name, near)}; name that of a run, runs/NAME")
    for file, kind in {CASCADE: "cascade", ENSEMBLE: "ensemble"}.items():
        if (folder / file).is_file():
            return kind
    if fold_configs(folder):
        return "run"
    raise BonepipeError(f"{folder}: no run here (no fold-*/{CONFIG}); name the folder of a run, runs/NAME")


def fold_folders(folder: Path) -> dict[int, Path]:
    """Number -> folder of each fold in a run's folder; what people have moved aside there (`fold-0.old`) is none."""
    matches = {path: re.fullmatch(r"fold-(\d+)", path.name) for path in folder.glob("fold-*")}
    return dict(sorted((int(match[1]), path) for path, match in matches.items() if match))


def fold_configs(folder: Path) -> list[Path]:
    """The config of each fold in a run's folder that has one."""
    return [path / CONFIG for path in fold_folders(folder).values() if (path / CONFIG).is_file()]


def refuse_taken(output: Path, file: str) -> None:
    """Raise UsageError where the folder to write cannot be named so, or holds runs or other results than `file`."""
    if output.name and not configs.is_folder_name(output.name):
        raise UsageError(f"--output {output.parent / output.name[:80]}: {configs.FOLDER_NAME}")
    others = [name for name in KINDS if name != file]
    runs = any(output.glob("fold-*")) or any(output.glob("*/fold-*"))
    if not output.name or runs or any((output / name).is_file() for name in others):
        held = " or ".join(["a run", *(KINDS[name] for name in others)])
        raise UsageError(f"--output {output}: holds {held}; name a folder of its own, like runs/best")


def delete(folder: Path) -> bool:
    """Delete a run's folder with all that is in it; returns whether there was one.

    Raises:
        BonepipeError: the folder holds no results, so it is nothing that may be deleted; or somebody works in it.
    """
    sweep(folder.parent)  # of one that was deleted in part
    if not folder.is_dir():
        return False
    known = (CONFIG, FINGERPRINT, ENSEMBLE, CASCADE, SCORES, BATCH_SIZE, *(path.name for path in folder.glob("fold-*")))
    if any(folder.iterdir()) and not any((folder / name).exists() for name in known):
        raise BonepipeError(f"{folder}: holds no results of an experiment; nothing is deleted")
    for place in [folder, *folder.glob("fold-*")]:
        with locked(place):
            pass
    place = folder.resolve()  # which a link leads to
    doomed = place.rename(part_of(place))  # at once: nobody could tell the rest of a run from files of people
    shutil.rmtree(doomed)
    return True


def recorded_config(folder: Path) -> configs.Config:
    """The settings of a folder's results: those of its cross-validation, else those of its first fold."""
    return load_config(config_file(folder))


def config_file(folder: Path) -> Path:
    """Where the settings of a folder's results stand.

    Raises:
        BonepipeError: nothing is there, or an ensemble or a cascade that was never finished.
    """
    kind, path = kind_of(folder), folder / CONFIG
    if path.is_file():
        return path
    if kind == "run":
        return fold_configs(folder)[0]
    made_by = {"ensemble": f"ensemble {folder / ENSEMBLE}", "cascade": "cascade FIRST SECOND"}[kind]
    raise BonepipeError(f"{path}: is missing, so this {kind} was not finished; run `bonepipe {made_by} -o {folder}`")


def _again(folder: Path) -> str:
    """The command that brings the files of a fold, or of whatever lies in a folder, up to date."""
    fold = re.fullmatch(r"fold-(\d+)", folder.name)
    what = f"train fold={fold[1]} name={folder.parent.resolve().name}" if fold else "train-all"
    return f"`bonepipe {what}` with the run's settings"


def require_written(path: Path) -> None:
    """Raise BonepipeError where a file is not as the step noted that wrote it: cut short, or of another run."""
    for entry in read_fingerprint(path.parent).values():
        noted = entry["outputs"].get(path.name)
        if noted is not None and digest(path) != noted:
            raise BonepipeError(f"{path}: is not the file that was written; {_again(path.parent)} makes it anew")


def load_config(path: Path, again: str = "", *, checked: bool = True) -> configs.Config:
    """The settings that a folder's results were made with; what of the data may be sent, who uses it says anew.

    Args:
        path: of the file.
        again: what writes it anew; by default the command that trains a fold or a run.
        checked: False for those of an earlier version, which may lack some.

    Raises:
        BonepipeError: it cannot be read; the message tells how to get one.
    """
    try:
        config = configs.load(path) if checked else configs.read(path)
    except BonepipeError as error:
        raise BonepipeError(f"{error}; move it away, and {again or _again(path.parent)} writes it anew") from error
    tracking = config.get("tracking")
    if isinstance(tracking, dict) and "upload" in tracking:
        config["tracking"] = {**tracking, "upload": "auto"}
    return config


def recorded_folds(folder: Path) -> dict[str, int]:
    """Image name -> the fold that validated it when this fold was trained, whatever a fold file says today.

    Raises:
        BonepipeError: the fold was not trained, or nobody noted on what.
    """
    record = read_training(folder)
    if record is None:
        raise BonepipeError(f"{folder / FINGERPRINT}: does not say what this fold was trained on; train it again")
    return dict(record["inputs"]["folds"])


def mixed_versions(folders: Sequence[Path]) -> str | None:
    """A warning where folds were trained with other versions of the libraries than each other or than those here.

    Not a reason to refuse: between most versions nothing changes, and nobody but the user knows.
    """
    entries = {folder.name: read_fingerprint(folder).get("training") or {} for folder in folders}
    trained = {name: entry.get("versions", {}) for name, entry in entries.items()}
    if lines := versions.differences({**trained, "now": versions.installed()}):
        where = folders[0].parent
        return f"warning: {where}: trained with other versions, so results may differ:\n{shortened(lines, len(lines))}"
    return None


def read_cascade(folder: Path) -> Cascade:
    """What `bonepipe cascade` noted of its result. Raises BonepipeError where it is missing or damaged."""
    path = folder / CASCADE
    try:
        return read_json(path, Cascade, f"run `bonepipe cascade FIRST SECOND -o {folder}` again")
    except FileNotFoundError as error:
        raise BonepipeError(f"{path}: no such file; `bonepipe cascade FIRST SECOND -o {folder}` writes it") from error


def scores_of(folder: Path) -> dict[str, Any]:
    """The content of scores.json. Raises BonepipeError where it is missing or damaged."""
    path = folder / SCORES
    try:
        return {**read_json(path, Scores, ANEW)}
    except FileNotFoundError as error:
        raise BonepipeError(f"{path}: no such file; `bonepipe train-all` writes it when all folds are done") from error
