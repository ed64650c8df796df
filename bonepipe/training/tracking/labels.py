"""How people find a run among others on the dashboard: its name and its tags."""

import os
from collections.abc import Iterable, Mapping
from typing import Any

LONGEST_NAME, LONGEST_TAG = 128, 64  # letters that W&B takes


def run_title(template: str, experiment: str, run: str) -> str:
    """The name that a run is shown with.

    Args:
        template: may hold `{experiment}` and `{run}`.
        experiment: the group.
        run: for example `fold-0` or `cross-validation`.

    Raises:
        ValueError: the template holds other fields, or nothing would be shown.

    >>> run_title("{experiment} {run}", "demo", "fold-0")
    'demo fold-0'
    """
    try:
        title = template.format(experiment=experiment, run=run).strip()
    except (KeyError, IndexError, AttributeError, ValueError) as error:
        raise ValueError(f"run_name={template!r}: only {{experiment}} and {{run}} stand for something") from error
    if not title:
        raise ValueError(f"run_name={template!r}: names nothing")
    return title[:LONGEST_NAME]


def run_tags(config: Mapping[str, Any], run: str, more: Iterable[str] = ()) -> tuple[str, ...]:
    """What a run is filtered by: data, model, loss, size and fold as the config names them, then further tags.

    >>> run_tags({"data": {"name": "hand", "size": 512}, "loss": {"_target_": "bonepipe.DiceFocal"}}, "fold-0")
    ('hand', 'DiceFocal', '512 px', 'fold-0')
    """
    data, fold = config.get("data") or {}, run if run.startswith("fold-") else ""
    own = (data.get("name"), _model(config.get("model") or {}), _built(config.get("loss") or {}), _size(data), fold)
    listed = [*own, *more, *os.environ.get("WANDB_TAGS", "").split(",")]  # W&B's own variable
    return tuple(dict.fromkeys(tag for text in listed if (tag := str(text or "").strip()[:LONGEST_TAG].strip())))


def _built(node: Mapping[str, Any]) -> str:
    """What a node of the config builds, without its module."""
    return str(node.get("_target_", "")).rpartition(".")[2]


def _model(node: Mapping[str, Any]) -> str:
    """An architecture with its encoder or variant, as people call it."""
    words = [node.get("architecture") or _built(node), node.get("encoder") or node.get("variant")]
    return " ".join(str(word) for word in words if word)


def _size(data: Mapping[str, Any]) -> str:
    """Height and width that the model sees."""
    size = data.get("size")
    sides = size if isinstance(size, list | tuple) else [size]
    return f"{'x'.join(map(str, sides))} px" if size else ""
