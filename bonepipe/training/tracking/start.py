"""Where a run of Weights & Biases is tracked: online, offline, or nowhere when neither can be had."""

import contextlib
import errno
import logging
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from bonepipe.training.tracking.ending import PATIENCE
from bonepipe.training.tracking.environment import of_run, trial_of
from bonepipe.training.tracking.identity import ID, REPLACED, Source, identify
from bonepipe.training.tracking.labels import LONGEST_TAG, run_tags, run_title
from bonepipe.training.tracking.login import WANDB_MODES, place
from bonepipe.training.tracking.run import Run
from bonepipe.training.tracking.staging import keep_in
from bonepipe.training.tracking.telling import cause, let_go, say
from bonepipe.training.tracking.upload import CHOICES, Upload

FLUSH = 1.0  # seconds after which an epoch that was told is on the disk, whatever becomes of the process
PROJECT = "bonepipe"
ROOM = 8 << 20  # bytes that a start asks for: W&B itself would begin and lose what it is told
WAIT = 8.0  # seconds that a start waits for the server; all of it then stays below ten


class Tracking:
    """Starts runs in the place that the config names.

    Args:
        project: on the dashboard; WANDB_PROJECT replaces the default.
        mode: `online`, `offline`, `disabled` for no tracking at all, or `auto`: online where a key is at hand.
        entity: the team or user that the project belongs to; None for the login's own.
        tags: of every run, beside data, model, loss, size and fold; 1 to 64 characters each.
        notes: a text with every run.
        run_name: what runs are called; `{experiment}` and `{run}` (`fold-0`, `cross-validation`) stand for their names.
        upload: `numbers`, `pictures`, `all`, or `auto`: all of synthetic data, of other data numbers.
    """

    def __init__(
        self,
        *,
        project: str = PROJECT,
        mode: str = "auto",
        entity: str | None = None,
        tags: tuple[str, ...] = (),
        notes: str | None = None,
        run_name: str = "{experiment} {run}",
        upload: str = "auto",
    ) -> None:
        if upload not in CHOICES:
            raise ValueError(f"upload={upload!r} is not {', '.join(CHOICES[:-1])} or {CHOICES[-1]}")
        if mode not in ("auto", "online", "offline", "disabled"):
            raise ValueError(f"mode={mode!r} is not auto, online, offline or disabled")
        if not re.fullmatch(r"[^/\\#?%:\r\n]{1,128}", project):
            raise ValueError(f"project={project!r}: W&B takes 1 to 128 characters, none of / \\ # ? % :")
        if mode == "auto" and (named := os.environ.get("WANDB_MODE", "")) not in WANDB_MODES:
            raise ValueError(f"the variable WANDB_MODE={named!r} is not {', '.join(filter(None, WANDB_MODES))}")
        if entity is not None and not re.fullmatch(r"[\w.-]{1,128}", entity, re.ASCII):
            raise ValueError(f"entity={entity!r}: the name of a team or user, of letters, digits, `_`, `-` and `.`")
        for tag in tags:
            if not 1 <= len(tag.strip()) <= LONGEST_TAG:
                raise ValueError(f"tags: {tag!r}: W&B takes 1 to {LONGEST_TAG} characters")
        run_title(run_name, "experiment", "run")
        self.project, self.mode, self.upload = project, mode, upload
        self.entity, self.tags, self.notes, self.run_name = entity, tags, notes, run_name

    def start(
        self,
        experiment: str,
        kind: str,
        name: str,
        config: Mapping[str, Any],
        folder: Path,
        *,
        results: Path | None = None,
        made_from: Mapping[str, Any] | None = None,
        synthetic: bool = False,
    ) -> Run:
        """Start a run; one that tells of the same results goes on where it was interrupted.

        Where W&B cannot be had the run is tracked offline, and where that fails too, not at all. Nothing asks for a
        login, and nothing waits for a network for more than ten seconds. A line says what is sent where.

        Args:
            experiment: the group.
            kind: job type: `fold`, `cross-validation`, `submission` or `leaderboard`.
            name: of the run in the experiment: `fold-0`, or its kind.
            folder: of the experiment; the run's own files go to `wandb/` in it.
            results: the folder that the run is about and that keeps its id, where it is not the experiment's.
            made_from: what the results depend on; other results are another run.
            synthetic: whether no patient is in the data, see `bonepipe.data.synthetic`.
        """
        if self.mode == "disabled":
            return Run()
        source = Source.of(results / ID if results else folder / "wandb" / f"{name}.json", made_from)
        upload = Upload.chosen(self.upload, synthetic=synthetic)
        about = {"group": experiment, "job_type": kind, "config": upload.config(config)}
        keep_in(folder / "wandb")
        with of_run(trial := trial_of(kind)):
            where, reason = place(self.mode)
            if where == "disabled":
                return Run()
            causes = [reason] if reason else []
            for mode in dict.fromkeys((where, "offline")):
                try:
                    run = self._start(mode, folder / "wandb", name, source, trial, upload, **about)
                except Exception as error:  # of any kind: no network, no permission, a bad key
                    causes.append(cause(error))
                else:
                    why = f" ({causes[0]})" if causes else ""
                    there = f"offline in {folder / 'wandb'}" if mode == "offline" else f"at {run.project_url}"
                    say(f"{name} is tracked {there}{why}: {upload}")
                    return Run(run, upload)
        say(f"{name} is not tracked ({causes[-1]})")
        return Run()

    def _start(
        self, mode: str, folder: Path, name: str, source: Source, trial: str | None, upload: Upload, **about: Any
    ) -> Any:
        import wandb

        folder.mkdir(parents=True, exist_ok=True)
        if shutil.disk_usage(folder).free < ROOM:
            raise OSError(errno.ENOSPC, f"less than {ROOM >> 20} MiB left", str(folder))
        identity, replaced = identify(folder, name, source, offline=mode == "offline", given=trial)
        with _whole_or_nothing(folder, identity):
            run = wandb.init(
                project=self.chosen_project(),
                entity=self.entity,
                name=run_title(self.run_name, about["group"], name),
                notes=self.notes,
                tags=run_tags(about["config"], name, self.tags),
                id=identity,
                resume="allow" if mode == "online" else None,
                dir=str(folder.parent.resolve()),  # W&B's service may have been started in another folder
                mode=mode,  # type: ignore[arg-type]
                settings=wandb.Settings(
                    silent=True,
                    init_timeout=WAIT,
                    finish_timeout=PATIENCE,
                    finish_timeout_raises=True,
                    x_transaction_log_flush_interval=FLUSH,
                    **upload.settings,
                ),
                **about,
            )
        for handler in logging.getLogger("wandb").handlers:
            handler.handleError = lambda record: None  # type: ignore[method-assign] # a full disk: pages of tracebacks
        for part in replaced:
            with contextlib.suppress(OSError):  # at worst it stays
                (folder / REPLACED).mkdir(exist_ok=True)
                part.rename(folder / REPLACED / part.name)
        return run

    def chosen_project(self) -> str:
        """The one that was chosen; else that of W&B's variable, which a sweep's agent sets."""
        return self.project if self.project != PROJECT else os.environ.get("WANDB_PROJECT") or PROJECT


@contextlib.contextmanager
def _whole_or_nothing(folder: Path, identity: str) -> Iterator[None]:
    """Leave no part of a run behind that W&B failed to start: nothing was told in it."""
    before = set(folder.glob(f"*run-*-{identity}*"))
    try:
        yield
    except BaseException:
        let_go()
        for part in set(folder.glob(f"*run-*-{identity}*")) - before:
            shutil.rmtree(part, ignore_errors=True)
        raise
