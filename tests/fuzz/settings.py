"""YAML and overrides: the settings of a run, and the files that people write by hand."""

from pathlib import Path
from random import Random
from typing import Any

from hypothesis import strategies as st

from bonepipe import config as configs
from bonepipe import plain_yaml
from bonepipe.data.augment import read_policy
from bonepipe.errors import BonepipeError, UsageError
from bonepipe.inference.ensemble import members
from bonepipe.pipeline import ablation

from . import mutate
from .engine import Target
from .texts import CLASSES

SNIPPETS = (
    "!!bool x", "!!int ''", "!!int x", "!!float ''", "!!float x", "!!timestamp x", "!!timestamp 2020-13-45",
    "!!binary x", "!!null x",
    "!!set {a, b}", "!!omap [a: 1]", "!!pairs [a: 1]", "!!str", "!!seq x", "!!map [x]", "!!merge x",
    "!!python/none", "!!python/object/apply:os.system [true]",
    "!x y", "&a [1]", "*a", "&a {b: *a}", "2020-13-45", "2001-01-01", "2001-01-01 00:00:00 +99:99",
    "0001-01-01 00:00:00 +23:00", "1:99", "190:20:30.15",
    ".inf", "-.inf", ".nan", "0x", "0b", "0o8", "0x1F", "0b12", "1_000", "_", "+", "-", "? [1]\n: 2", "<<: 5",
    "<<: {a: 1}", "<<: [1]", "=", "~",
    "|\n x", ">\n x", "'", '"', '"\\0"', '"\\ud800"', '"\\x', "%YAML 9.9", "---", "...", "@x", "`x", "[" * 60,
    "{" * 60, "- " * 60,
    "${name}", "${data}", "${oc.env:HOME}", "bonepipe.cli.main", "os.system", "true", "null", "-1", "1e400", "9" * 400,
)  # fmt: skip
change_text = mutate.text(SNIPPETS)


def anything() -> st.SearchStrategy[str]:
    """Text that no valid file is like."""
    return st.text(max_size=40) | st.lists(st.sampled_from(SNIPPETS), max_size=4).map("\n".join)


def texts(*valid: str) -> st.SearchStrategy[str]:
    """Valid files mostly."""
    return st.one_of(*[st.sampled_from(valid)] * 4, anything())


def as_text(document: str) -> bytes:
    """UTF-8, with what that cannot hold left in."""
    return document.encode("utf-8", "surrogatepass")


def check_yaml(path: Path, content: bytes) -> None:
    """Plain values, the same that PyYAML's own parser finds, which is not the one in C that reads here; no dates."""
    import yaml

    class Undated(yaml.SafeLoader):
        pass

    forms = yaml.SafeLoader.yaml_implicit_resolvers
    Undated.yaml_implicit_resolvers = {
        letter: [form for form in of_letter if "timestamp" not in form[0]] for letter, of_letter in forms.items()
    }
    found = plain_yaml.load(path)
    if b"\t" in content or b"\xef\xbb\xbf" in content:
        return  # which the two take for different things
    assert repr(found) == repr(yaml.load(content.decode(), Undated)), "other values"


def check_ensemble(path: Path, content: bytes) -> None:
    """An ensemble and its weights."""
    ensemble = members.read(path)
    try:
        weights = ensemble.merged().weights(CLASSES)
    except BonepipeError as error:  # it names the run, whose classes are not those of the file
        raise BonepipeError(f"{path}: {error}") from error
    assert abs(weights.sum(0) - 1).max() < 1e-6
    members.write(path, ensemble)
    assert members.read(path) == ensemble, "written, and read as another"


def check_policy(path: Path, content: bytes) -> None:
    """A policy of augmentation."""
    assert all(isinstance(node, dict) for node in read_policy(path))


def check_ablation(path: Path, content: bytes) -> None:
    """A table of rows to train."""
    rows = ablation.read(path)
    assert len(rows.compared) == len(rows.rows) > 0


ENSEMBLE = """mean: geometric
members:
  - {run: runs/demo}
  - {run: runs/wide, weight: 2, folds: [0, 1], overrides: [tta=none, windows.size=768]}
  - {run: runs/sharp, classes: [Ulna, Radius], epochs: [1, 2]}
"""
POLICY = "transforms:\n  - {name: HorizontalFlip, p: 0.5}\n  - {name: OneOf, p: 1, transforms: [{name: Blur}]}\n"
ABLATION = """base: tracking=none runs={runs}
seeds: [0, 1]
over: first
rows:
  - {name: first, train: trainer.epochs=1}
  - {name: second, group: x, commands: ["train-all {base}", "submit {base}"], run: demo, more: true}
"""


def yaml_target(_: Path) -> list[Target]:
    """YAML that people write."""
    kinds = (
        (
            "any YAML",
            texts(ENSEMBLE, POLICY, ABLATION, ""),
            check_yaml,
            "a.yaml",
            "PyYAML's parser in Python",
            ValueError,
        ),
        (
            "ensembles",
            texts(ENSEMBLE),
            check_ensemble,
            "ensemble.yaml",
            "itself, written and read",
            BonepipeError,
        ),
        ("policies", texts(POLICY), check_policy, "policy.yaml", "", ValueError),
        ("ablations", texts(ABLATION), check_ablation, "ablation.yaml", "", UsageError),
    )
    return [
        Target(name, documents, as_text, change_text, check, file, compared, (error,))
        for name, documents, check, file, compared, error in kinds
    ]


def check_config(path: Path, content: bytes) -> None:
    """A run's settings, written again."""
    config = configs.load(path)
    configs.save(config, path)
    assert repr(configs.load(path)) == repr(config), "written, and read as another"


def config_target(_: Path) -> list[Target]:
    """The config.yaml of a run."""
    words = (
        ["experiment=debug"],
        ["data=chest", "~experiment"],
        ["model=fpn_resnet50", "loss=dice_topk", "mixing=cutmix"],
    )
    valid = [configs.as_yaml(configs.compose(list(overrides))) for overrides in words]
    about = "itself, written and read"
    return [Target("configs of runs", st.sampled_from(valid), as_text, change_text, check_config, "config.yaml", about)]


OVERRIDES = (
    "experiment=debug", "~experiment", "data=chest", "data.size=64", "data.size=[64,32]", "model=mobile_unet",
    "+model.settings.encoder_depth=4",
    "loss=dice_topk", "loss.k=0.1", "trainer.batch_size=auto", "trainer.effective_batch=8",
    "optimizer.lr=1e-3", "seed=${fold}", "name=x",
    "name=${data.name}", "augment.file=a.yaml", "tta=none", "thresholds.margin=2", "windows=none",
    "prediction.folds=[0,1]", "fold=1",
    "strata.test_mix={rotated:0.5,straight:0.5}", "executor=ray", "tracking=none", "data.external=[{root:a,prefix:b}]",
)  # fmt: skip
KEYS = tuple(word.partition("=")[0] for word in OVERRIDES)
SIGNS = (
    "", "~", "+", "++", "=", "@x=", "=null", "=''", "=[", "={", "={}", "=[]", "=1,2", "=choice(1,2)",
    "=range(1,9)", "=glob(*)", "=sort(3,1)", "=int(x)",
    "=${data}", "=${model}", "=${fold}", "=${seed}", "=${oc.env:HOME}", "=${oc.decode:x}", "=${.}", "=${..}",
    "=${", "=???", "=\\", "='", '="', "=1e400", "=nan",
    "=-1", "=9" + "9" * 30, "=" + "[" * 80, "=" + "[" * 80 + "]" * 80, "=a:b:c", "={a:{b:1}}", "=true", "= ",
    "=\0", "=\n", "=%", "=/", "=../x", "=.inf",
)  # fmt: skip


def change_words(rng: Random, items: list[str]) -> list[str]:
    """Another command line: a word with another sign or value, or another word."""
    at, kind = rng.randrange(len(items) + 1), rng.randrange(4)
    key = rng.choice((*KEYS, *configs.GROUPS, *configs.PLAIN_KEYS, "hydra.run.dir", "data.x", "x"))
    sign = rng.choice(SIGNS)
    word = f"{sign}{key}" if sign in ("~", "+", "++") else f"{key}{sign}"
    if kind <= 1 or not items:
        return [*items[:at], word, *items[at:]]
    if kind == 2:
        return [*items[:at], rng.choice(OVERRIDES), *items[at:]]
    return mutate.words(rng, items)


def check_overrides(_: Path, content: bytes) -> None:
    """Words of a command line, composed and checked."""
    configs.compose(content.decode("utf-8", "surrogateescape").split("\n\n"))


def overrides_target(_: Path) -> list[Target]:
    """Overrides of a command line."""
    documents = st.lists(st.sampled_from(OVERRIDES), max_size=3)
    render: Any = lambda items: "\n\n".join(items).encode("utf-8", "surrogatepass")  # noqa: E731
    return [Target("overrides", documents, render, change_words, check_overrides, "", typed=(UsageError,))]
