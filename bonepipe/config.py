"""The configuration: composed by Hydra from conf/, checked against the constructors it describes, then built.

Every group's node names a constructor under `_target_` and its keyword arguments. The constructor's own signature is
the schema: a key it does not take or a value of another type is refused before anything runs. What only the program
knows (the number of classes, the parameters to optimise) is positional-only in the signature and never in a file.
"""

import inspect
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import is_dataclass
from itertools import takewhile
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar, Union, get_origin

from bonepipe import plain_yaml
from bonepipe.constructors import conf_dir, content, locate
from bonepipe.errors import BonepipeError, UsageError, quoted, reason, suggestion
from bonepipe.files import find_files, replacing
from bonepipe.forms import adapter, named

Config = dict[str, Any]
T = TypeVar("T")
STRICT = {"extra": "forbid"}  # pydantic's: a misspelt key is refused

GROUPS = (
    "data", "folds", "strata", "model", "transfer", "loss", "optimizer", "scheduler", "averaging", "sampler", "augment",
    "mixing", "tta", "windows", "prediction", "thresholds", "postprocess", "trainer", "executor", "tracking", "search",
    "cam",
)  # fmt: skip
PLAIN_KEYS: dict[str, type[Any]] = {"name": str, "fold": int, "seed": int, "runs": str, "device": str}
LARGEST = 1e12  # no setting has a use for more
DEVICES = ("auto", "cpu", "cuda", "mps")
REFERENCE = re.compile(r"\$\{[\w.]+\}")  # to another key
FOLDER_NAME = (
    "one folder below runs=..., so without slashes and no dot or dash at its start, of printable characters, "
    "at most 200 bytes"
)


def heading(text: str) -> str:
    """The comment that a file of conf/ begins with; in experiments without the command that runs them."""
    lines = (line.removeprefix("#").strip() for line in takewhile(lambda line: line.startswith("#"), text.splitlines()))
    return " ".join(line for line in lines if line and not line.startswith(("@package", "make ")))


def compose(overrides: Sequence[str], *, checked: bool = True, uses: Sequence[str] = ()) -> Config:
    """Compose the config from `key=value` words and check it.

    Args:
        overrides: the words.
        checked: False leaves `check`, which imports what the config names, to the caller: whoever finds all done
            already needs none of it.
        uses: the groups that the caller uses; only these are checked, and those that an override names, because
            others may import PyTorch. Empty for all.

    Returns:
        Plain dictionaries, lists and values, every interpolation resolved.

    Raises:
        UsageError: an unknown key or option, a value of the wrong type; nothing has been run yet.
    """
    config = _with_effective_batch(_composed("config", overrides, overrides), overrides)
    if checked:
        named = {re.split(r"[.=@]", word.lstrip("+~"))[0] for word in overrides} if uses else {*GROUPS}
        check(config, [group for group in GROUPS if group in uses or group in named])
    return config


def _with_effective_batch(config: Config, words: Sequence[str]) -> Config:
    """With trainer.batch_size=auto a step keeps its images: as many as there are without that word.

    They are noted as trainer.effective_batch, unless that is set; `accumulate` follows from it.
    """
    trainer = config.get("trainer")  # which `~trainer` takes away; `check` says so
    if not isinstance(trainer, Mapping) or trainer.get("batch_size") != "auto":
        return config
    if (effective := trainer.get("effective_batch")) is None:
        others = [word for word in words if word.lstrip("+").partition("=")[0] != "trainer.batch_size"]
        recipe = _composed("config", others, words)["trainer"]
        sizes = recipe.get("batch_size"), recipe.get("accumulate", 1)
        effective = math.prod(sizes) if all(isinstance(size, int) for size in sizes) else None
    return {**config, "trainer": {**trainer, "effective_batch": effective, "accumulate": 1}}


def _composed(name: str, words: Sequence[str], given: Sequence[str]) -> Config:
    """What Hydra makes of a primary config and overrides; errors speak of the words as they were given."""
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    for word in given:
        if word.startswith("=") or ("=" not in word and not word.startswith("~")):
            raise UsageError(f"{quoted(word)} is not an override; write key=value, for example experiment=demo")
    try:
        with initialize_config_dir(str(conf_dir()), version_base="1.3"):
            composed = hydra_compose(name, list(words))
        _refuse_resolvers(OmegaConf.to_container(composed))
        config = OmegaConf.to_container(composed, resolve=True, throw_on_missing=True)
    except (HydraException, OmegaConfBaseException, ValueError, TypeError) as error:  # GROUP=null, GROUP=[[1]]
        raise UsageError(_explain(error, given)) from error
    except YAMLError as error:  # of a file in conf/
        raise UsageError(" ".join(str(error).split())) from error
    except RecursionError as error:
        raise UsageError("a value refers to itself, or is nested too deep; write out what it stands for") from error
    assert isinstance(config, dict)
    check_plain(config)  # type: ignore[arg-type]
    return {str(key): value for key, value in config.items()}


def recompose(config: Config, words: Sequence[str], uses: Sequence[str] = GROUPS) -> Config:
    """A copy of a resolved config with `GROUP=OPTION` and `GROUP.KEY=VALUE` words applied by Hydra, and checked.

    Args:
        config: as a run recorded it.
        words: overrides.
        uses: the groups that the caller uses; only these are checked, because others may import PyTorch.

    Raises:
        UsageError: as `compose`, and for an experiment, which would take the place of what was recorded.
    """
    if not words:
        return config
    if experiment := next((word for word in words if word.partition("=")[0].lstrip("+~") == "experiment"), None):
        raise UsageError(
            f"{experiment}: a run has the settings that it was trained with; name the run or the experiment"
        )
    groups = {word.partition("=")[0] for word in words} & set(GROUPS)
    # An option takes the place of its group's node, a single setting joins it.
    adding = [f"+{word}" if word.partition("=")[0] in groups else f"++{word}" for word in words]
    from hydra.core.config_store import ConfigStore

    ConfigStore.instance().store("recorded", {key: node for key, node in config.items() if key not in groups})
    result = _composed("recorded", adding, words)
    check(result, uses)
    return result


def written(name: str) -> Config:
    """What a file of conf/ says, its interpolations as they stand."""
    from omegaconf import OmegaConf

    content = OmegaConf.to_container(OmegaConf.load(conf_dir() / name))
    assert isinstance(content, dict)
    return {str(key): value for key, value in content.items()}


def _explain(error: Exception, overrides: Sequence[str]) -> str:
    """Hydra's reason in one line, with the nearest existing name where a key was misspelt."""
    from hydra.errors import OverrideParseException

    said = reason(str(error.__cause__ or error).strip().partition("\n")[0])
    if isinstance(error, OverrideParseException):
        shown = f"override {quoted(error.override.lstrip('+'), 200)}"
        return f"{shown}: {said}; quote a value with special characters: key=\"'...'\""
    keys = _leaf_keys(conf_dir())
    for word in overrides:
        shown = f"override {quoted(word, 200)}"
        key, _, choice = word.lstrip("+~").partition("=")
        choice = choice.strip("\"'")
        if key not in keys and key not in GROUPS and key != "experiment":
            return f"{shown}: no such key {quoted(key)}{suggestion(key, [*sorted(keys), *GROUPS, 'experiment'])}"
        folder = conf_dir() / key
        if folder.is_dir() and not word.startswith("~"):
            options = [path.stem for path in find_files(folder, (".yaml",))]
            if choice not in options:
                hint = f"{suggestion(choice, options)} (there are {', '.join(options)})"
                return f"{shown}: {key} has no option {quoted(choice)}{hint}"
        if said == f"Key '{key.rpartition('.')[2]}' is not in struct":
            others = [other for other in overrides if other != word]
            return _not_taken(key, others) or (
                f"{shown}: the chosen file leaves {key} at its default; write +{word} to set it"
            )
        inner = re.fullmatch(r"Key '(.+)' is not in struct", said)
        if inner and f"{inner[1]}:" in word:
            return f"{shown}: {key} has no {inner[1]!r} so far; write +{key}.{inner[1]}=... to add it"
    return said


def _not_taken(key: str, words: Sequence[str]) -> str:
    """What to tell of a setting of a group that what these words build does not take; empty where it does."""
    group, _, name = key.partition(".")
    try:
        target = _composed("config", words, words)[group]["_target_"]
        parameters = settings(locate(group, target))
    except (UsageError, KeyError, TypeError):  # there is more to mend, which the next call says
        return ""
    return "" if name.partition(".")[0] in parameters else _unknown(key, [f"{group}.{p}" for p in parameters], target)


def _leaf_keys(folder: Path) -> set[str]:
    """Every dotted key that some file of conf/ sets, to suggest one for a misspelt override."""
    keys = set(PLAIN_KEYS)
    for group in GROUPS:
        for path in find_files(folder / group, (".yaml",)):
            keys |= _dotted(content(path), f"{group}.")
    return keys


def _dotted(node: Mapping[Any, Any], prefix: str) -> set[str]:
    keys = {f"{prefix}{key}" for key in node if key != "defaults"}
    inner = [_dotted(value, f"{prefix}{key}.") for key, value in node.items() if isinstance(value, Mapping)]
    return keys.union(*inner)


def check_plain(config: Mapping[str, Any]) -> None:
    """Refuse values of the keys beside the groups; imports nothing. Raises UsageError naming the key."""
    for key, kind in PLAIN_KEYS.items():
        if key in config and (not isinstance(config[key], kind) or isinstance(config[key], bool)):
            raise UsageError(f"{key}={quoted(config[key])}: expected a value of type {kind.__name__}")
    device, seed, name = (config.get(key) for key in ("device", "seed", "name"))
    if device is not None and device not in DEVICES:
        hint = suggestion("cuda" if device == "gpu" else device, DEVICES)
        raise UsageError(f"device={device!r}: expected one of {', '.join(DEVICES)}{hint}")
    if seed is not None and not 0 <= seed < 2**32:
        raise UsageError(f"seed={seed}: from 0 to {2**32 - 1}")
    if name is not None and not is_folder_name(name):
        raise UsageError(f"name={name[:80]!r}: {FOLDER_NAME}")
    if config.get("runs") == "":
        raise UsageError("runs='': name the folder of results, for example runs=runs")


def is_folder_name(name: str) -> bool:
    """Whether results may lie in a folder of that name, see `FOLDER_NAME`."""
    return bool(re.fullmatch(r"[^./\\-][^/\\]*", name)) and name.isprintable() and len(name.encode()) <= 200


def check(config: Mapping[str, Any], groups: Sequence[str] = GROUPS) -> None:
    """Refuse unknown keys, and ill-typed values of some groups. Raises UsageError naming the key."""
    check_plain(config)
    for key, value in config.items():
        if key in groups:
            _check_node(key, value)
        elif key not in GROUPS and key not in PLAIN_KEYS:
            raise UsageError(_unknown(key, [*PLAIN_KEYS, *GROUPS], "the config"))
    missing = [key for key in (*PLAIN_KEYS, *GROUPS) if key not in config]
    if missing:
        raise UsageError(f"the config lacks {', '.join(missing)}")


def _check_node(path: str, node: Any) -> None:
    """Check one group's node against the signature of its `_target_`."""
    if not isinstance(node, Mapping) or "_target_" not in node:
        raise UsageError(f"{path}: needs a _target_ that names what to build")
    parameters = settings(locate(path, node["_target_"]))
    for key, value in node.items():
        if key == "_target_":
            continue
        if key not in parameters:
            raise UsageError(_unknown(f"{path}.{key}", [f"{path}.{name}" for name in parameters], node["_target_"]))
        _check_value(f"{path}.{key}", value, parameters[key].annotation)
    lacking = [name for name, p in parameters.items() if p.default is p.empty and name not in node]
    if lacking:
        raise UsageError(f"{path}: {node['_target_']} needs {', '.join(lacking)}")


def settings(target: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """The parameters that a config may set: all that can be given by name."""
    parameters = inspect.signature(target).parameters.values()
    return {p.name: p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}


def _check_value(path: str, value: Any, kind: Any) -> None:
    from pydantic import ValidationError

    require_numbers(path, value)
    try:
        require_numbers(path, adapter(kind).validate_python(value))
    except ValidationError as error:
        first = error.errors()[0]
        union = isinstance(kind, UnionType) or get_origin(kind) is Union  # it would only add the name of one member
        inside = [] if union else first["loc"]
        where = ".".join(str(part) for part in (path, *inside))
        known = re.findall(r"'([^']*)'", first["ctx"]["expected"]) if first["type"] == "literal_error" else []
        hint = suggestion(str(first["input"]), known)
        reason = f"{first['msg'][0].lower()}{first['msg'][1:]}{hint}"
        raise UsageError(f"{where}={quoted(first['input'] if inside else value)}: {reason}") from error


def require_numbers(path: str, value: Any) -> None:
    """Raise UsageError naming the key of a number, however deep, that is NaN, infinite or beyond all use."""
    if is_dataclass(value):
        value = vars(value)
    if isinstance(value, Mapping):
        for key, inner in value.items():
            require_numbers(f"{path}.{key}", inner)
    elif isinstance(value, list | tuple):
        for number, inner in enumerate(value):
            require_numbers(f"{path}.{number}", inner)
    elif isinstance(value, int | float) and not abs(value) <= LARGEST:
        raise UsageError(f"{path}={value}: must be a finite number, of at most {LARGEST:.0e}")


def _refuse_resolvers(config: Any) -> None:
    """Refuse interpolations of anything but keys, or a value could be taken from the environment or elsewhere."""
    for key, value in flatten(config).items():
        for text in strings(value):
            if "${" in REFERENCE.sub("", text):
                raise UsageError(
                    f"{key}={quoted(text)}: only keys can be referred to, as in ${{data.name}}; write the value"
                )


def strings(value: Any) -> Iterator[str]:
    """All texts in lists and mappings, keys and values."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from (*strings(key), *strings(inner))
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from strings(inner)


def _unknown(key: str, known: Sequence[str], owner: str) -> str:
    hint = suggestion(str(key), known) or "; it takes " + (", ".join(known) or "no settings")
    return f"{owner} takes no {quoted(key)}{hint}"


def build(config: Mapping[str, Any], group: str, *given: Any) -> Any:
    """Call the constructor of a group's node with its settings, after what the program gives positionally.

    Raises:
        UsageError: an unknown key, or a value of the wrong type or that the constructor refuses; the message names it.
    """
    _check_node(group, config[group])  # whoever composed may have left it to the command
    node = dict(config[group])
    target = locate(group, node.pop("_target_"))
    parameters = settings(target)
    values = {key: adapter(parameters[key].annotation).validate_python(value) for key, value in node.items()}
    try:
        return target(*given, **values)
    except ValueError as error:
        raise UsageError(f"{group}: {error}") from error


def as_yaml(config: Config) -> str:
    """The resolved config as YAML."""
    from omegaconf import OmegaConf

    return OmegaConf.to_yaml(OmegaConf.create(config))


def save(config: Config, path: Path) -> None:
    """Write the resolved config as YAML."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as part:
        part.write_text(as_yaml(config), encoding="utf-8")


def read(path: Path) -> Config:
    """Read a resolved config as it is. Raises BonepipeError when the file is missing or no config."""
    try:
        config = plain_yaml.load(path)
    except (OSError, ValueError) as error:
        raise BonepipeError(f"{path}: cannot read the config ({reason(error)})") from error
    if not isinstance(config, dict):
        raise BonepipeError(f"{path}: is not a config")
    if references := [text for text in strings(config) if "${" in text]:  # what wrote it has resolved all
        raise BonepipeError(f"{path}: {quoted(references[0])} refers to something; a run's config holds values alone")
    return config


def read_as(kind: type[T], path: Path, what: str, refusal: type[BonepipeError] = BonepipeError) -> T:
    """What a YAML file says, as a dataclass.

    Args:
        kind: the dataclass; its `__pydantic_config__` refuses a misspelt key.
        path: of the file.
        what: it should be, for the message.
        refusal: raised naming the file and the field.
    """
    from pydantic import TypeAdapter, ValidationError

    try:
        return TypeAdapter(kind).validate_python(plain_yaml.load(path))
    except ValidationError as error:
        first = error.errors()[0]
        raise refusal(f"{path}: {reason(named(first['loc']), 200)}: {first['msg']}") from error
    except (OSError, ValueError) as error:
        raise refusal(f"{path}: cannot be read as {what} ({reason(error)})") from error


def load(path: Path) -> Config:
    """Read a resolved config. Raises BonepipeError when the file is missing, unreadable or does not pass `check`."""
    config = read(path)
    try:
        check(config)
    except UsageError as error:
        raise BonepipeError(f"{path}: {error}") from error
    return config


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one level of dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def differences(old: Mapping[str, Any], new: Mapping[str, Any], ignore: Sequence[str] = ()) -> dict[str, tuple]:
    """The dotted keys whose values differ, as key -> (old, new); keys below a prefix in `ignore` are passed over.

    A setting that one side lacks, because it came with a later version, has its default there.
    """
    before, after = flatten(old), flatten(new)
    keys = [k for k in sorted(before.keys() | after.keys()) if not any(k == i or k.startswith(f"{i}.") for i in ignore)]
    pairs = {
        key: (before[key] if key in before else _default(old, key), after[key] if key in after else _default(new, key))
        for key in keys
        if before.get(key) != after.get(key)
    }
    return {key: pair for key, pair in pairs.items() if pair[0] != pair[1]}


def _default(config: Mapping[str, Any], key: str) -> Any:
    """What the constructor of a key's group takes where the config does not say; None where there is no such thing."""
    group, _, name = key.partition(".")
    node = config.get(group)
    if not isinstance(node, Mapping) or "_target_" not in node:
        return None
    parameter = settings(locate(group, node["_target_"])).get(name)
    if parameter is None or parameter.default is parameter.empty:
        return None
    return list(parameter.default) if isinstance(parameter.default, tuple) else parameter.default
