"""Which constructors a config may name: in each group those that the user's own conf/ names, and nothing else.

A config may come from somebody else, together with his weights. Its `_target_`s are looked up here, so that whatever
it says can only build what this installation has an option for.
"""

import importlib
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from bonepipe.errors import BonepipeError, UsageError, quoted
from bonepipe.files import find_files


def conf_dir() -> Path:
    """The folder of configs: what BONEPIPE_CONF names, else the package's own; never one that lies about.

    Raises:
        BonepipeError: there is no config.yaml in it.
    """
    named, package = os.environ.get("BONEPIPE_CONF"), Path(__file__).resolve().parent
    inside, beside = package / "conf", package.parent / "conf"  # of a wheel, of a checkout
    folder = Path(named) if named else inside if inside.is_dir() else beside
    if not (folder / "config.yaml").is_file():
        where = f"BONEPIPE_CONF={named}" if named else str(folder)
        raise BonepipeError(f"{where}: no config.yaml there; BONEPIPE_CONF names a folder like the project's conf/")
    return folder.resolve()


def registered(group: str) -> set[str]:
    """The dotted names that the files of a group in conf/ have as their `_target_`."""
    files = tuple((path, path.stat().st_mtime_ns) for path in find_files(conf_dir() / group, (".yaml",)))
    return _targets(files)


@cache
def _targets(files: tuple[tuple[Path, int], ...]) -> set[str]:
    """The `_target_`s of files with the times of their last changes, at which they are read anew."""
    contents = [content(path) for path, _ in files]
    return {content["_target_"] for content in contents if isinstance(content.get("_target_"), str)}


def content(path: Path) -> dict[str, Any]:
    """What a file of conf/ says; nothing where it cannot be read, of which whoever chooses it is told."""
    import yaml

    try:
        content = yaml.load(path.read_text(encoding="utf-8"), getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except (OSError, ValueError, yaml.YAMLError):
        return {}
    return content if isinstance(content, dict) else {}


def locate(group: str, target: Any) -> Callable[..., Any]:
    """The function or class that a group's `_target_` stands for.

    Raises:
        UsageError: no option of that group in conf/ names it, or it is not there.
    """
    known = registered(group)
    if not isinstance(target, str) or target not in known:
        names = ", ".join(sorted(known))
        raise UsageError(
            f"{group}: _target_ {quoted(target)} is not what an option of this group builds ({names}); "
            f"a constructor of your own is known as soon as a file in {conf_dir() / group} names it"
        )
    module, _, name = target.rpartition(".")
    try:
        constructor = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise UsageError(f"{group}: cannot find {target!r} ({error})") from error
    if not callable(constructor):
        raise UsageError(f"{group}: {target!r} cannot be called; name a function or a class")
    return constructor
