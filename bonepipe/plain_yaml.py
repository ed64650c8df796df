"""YAML from files that may come from anybody: plain values, bounded in size and depth."""

from functools import cache
from pathlib import Path
from typing import Any

from bonepipe.errors import quoted

LARGEST = 4 << 20  # bytes; a run's config has some 5,000
DEEPEST = 50  # levels; the parser's own recursion would overflow the stack at tens of thousands


def load(path: Path) -> Any:
    """What a YAML file says, as mappings, lists, texts, numbers, booleans and None; a date is a text.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is no YAML, no file, too large or too deep, gives a value a type by a tag, or repeats parts of
            itself by reference.
    """
    import yaml

    if path.exists() and not path.is_file():
        raise ValueError("is no file")
    if path.stat().st_size > LARGEST:
        raise ValueError(f"has more than {LARGEST >> 20} MiB")
    text = path.read_text(encoding="utf-8")
    loader = _loader()
    try:
        _check_form(yaml, yaml.parse(text, loader))
        return yaml.load(text, loader)
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from error


@cache
def _loader() -> Any:
    """PyYAML's safe loader, without dates: JSON has none, nor has OmegaConf, and no setting is one."""
    import yaml

    class Plain(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
        """In C, where PyYAML has it: a sixth of the time."""

    Plain.yaml_implicit_resolvers = {
        first: [(tag, form) for tag, form in forms if not tag.endswith(":timestamp")]
        for first, forms in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    return Plain


def _check_form(yaml: Any, events: Any) -> None:
    """Raise ValueError at a level too deep, at an alias (a few stand for gigabytes, or for themselves), or at a tag.

    A tag asks for another type than a value has by its form, over which the parser stumbles with errors of any kind.
    """
    level = 0
    for event in events:
        level += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if level > DEEPEST:
            raise ValueError(f"is nested more than {DEEPEST} levels deep")
        if isinstance(event, yaml.AliasEvent):
            raise ValueError(f"refers to itself by *{event.anchor}; write out what it stands for")
        if tag := getattr(event, "tag", None):
            raise ValueError(f"has the tag {quoted(tag)}; write the value without it")
