"""A config names what to build: only what an option of its group builds, whatever else the package has."""

import functools
import importlib
import pkgutil
import shutil
import sys

import pytest

import bonepipe
from bonepipe import config as configs
from bonepipe import constructors
from bonepipe.errors import BonepipeError, UsageError


def names_of_the_package():
    """Everything that can be called by a dotted name below bonepipe, what its modules import included."""
    for module in pkgutil.walk_packages(bonepipe.__path__, "bonepipe."):
        if not module.name.endswith("__main__"):
            content = vars(importlib.import_module(module.name))
            yield from (f"{module.name}.{name}" for name, value in content.items() if callable(value))


@pytest.fixture(scope="module")
def demo():
    return configs.compose(["experiment=demo"])


@pytest.fixture
def saved(demo, tmp_path):
    """A function: a run's config.yaml, one group's node replaced."""

    def save(group, node):
        configs.save(demo | {group: node}, tmp_path / "config.yaml")
        return tmp_path / "config.yaml"

    return save


def test_of_all_names_in_the_package_each_group_takes_those_of_its_options_alone(monkeypatch):
    monkeypatch.setattr(constructors, "registered", functools.cache(constructors.registered))
    names = [*names_of_the_package(), "bonepipe.files.os.system", "os.system", "builtins.eval", "subprocess.run"]
    assert len(names) > 3000
    assert {"bonepipe.training.executors._call", "bonepipe.files.write_json", "bonepipe.cli.main"} <= {*names}
    taken = {group: set() for group in configs.GROUPS}
    for group in configs.GROUPS:
        for name in names:
            try:
                configs.check(everything_but(group) | {group: {"_target_": name}}, [group])
            except UsageError as error:
                if "_target_" in str(error):
                    assert repr(name) in str(error)
                    continue
            taken[group].add(name)
    assert {"bonepipe.data.spec.DataSpec"} == taken["data"]
    assert taken == {group: constructors.registered(group) for group in configs.GROUPS}


def everything_but(group):
    plain = {key: kind() for key, kind in configs.PLAIN_KEYS.items()} | {"name": "a", "runs": "a", "device": "cpu"}
    return plain | {other: None for other in configs.GROUPS if other != group}


@pytest.mark.parametrize("group", configs.GROUPS)
def test_a_saved_config_that_names_a_function_of_the_package_is_refused(saved, group, tmp_path):
    node = {"_target_": "bonepipe.training.executors._call", "command": ["touch", str(tmp_path / "x")], "folder": "."}
    with pytest.raises(BonepipeError, match=rf"config\.yaml: {group}: _target_ 'bonepipe.training.executors._call'"):
        configs.load(saved(group, node))
    with pytest.raises(UsageError, match="is not what an option of this group builds"):
        configs.build({group: node}, group)
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("target", [None, 3, ["os.system"], {"a": 1}, "", "bonepipe", "os" * 10**6])
def test_a_target_that_is_no_name_is_refused_in_a_short_line(saved, target):
    with pytest.raises(BonepipeError, match="loss: _target_ ") as caught:
        configs.load(saved("loss", {"_target_": target}))
    assert len(str(caught.value)) < 2000


@pytest.mark.parametrize("key", ["_partial_", "_args_", "_recursive_", "_convert_", "_call_", "__class__", "self"])
@pytest.mark.parametrize("group", configs.GROUPS)
def test_no_node_has_keys_beside_the_settings_of_its_constructor(demo, group, key):
    with pytest.raises(UsageError, match=f"takes no '{group}.{key}'"):
        configs.check(demo | {group: demo[group] | {key: ["os.system"]}}, [group])


@pytest.mark.parametrize(
    "word",
    [
        "augment.transforms=[{name: Lambda, image: os.system}]",
        "augment.transforms=[{name: load}]",
        "augment.transforms=[{name: os.system}]",
        "augment.transforms=[{name: OneOf, transforms: [{_target_: os.system}]}]",
        "augment.transforms=[{name: HorizontalFlip, _target_: os.system}]",
    ],
)
def test_a_recipe_names_transforms_and_nothing_else(word):
    config = configs.compose(["augment=light", word])
    with pytest.raises(UsageError, match="augment: ") as caught:
        configs.build(config, "augment", configs.build(config, "data"))
    assert "did you mean 'load'" not in str(caught.value)


@pytest.mark.parametrize("setting", ["checkpoint_path", "cache_dir", "pretrained_cfg", "pretrained_cfg_overlay"])
def test_settings_of_a_timm_encoder_read_no_file(demo, setting, tmp_path):
    settings = {setting: str(tmp_path / "x.pkl")}
    node = demo["model"] | {"encoder": "tu-mobilenetv3_small_050", "encoder_weights": None, "settings": settings}
    with pytest.raises(UsageError, match=rf"settings.{setting}: model.encoder"):
        configs.build({"model": node}, "model", 2)


@pytest.mark.parametrize("text", ["${oc.env:HOME}", "${name}", "a${oc.decode:1}", "\\${oc.env:HOME}"])
def test_a_saved_config_refers_to_nothing(demo, tmp_path, text):
    (tmp_path / "config.yaml").write_text(f"name: '{text}'\n")
    with pytest.raises(BonepipeError, match="a run's config holds values alone"):
        configs.load(tmp_path / "config.yaml")
    (tmp_path / "config.yaml").write_text(f"data: {{swaps: {{'{text}': 1}}}}\n")
    with pytest.raises(BonepipeError, match="a run's config holds values alone"):
        configs.read(tmp_path / "config.yaml")


@pytest.mark.parametrize("word", ["name=${oc.env:SECRET}", "data.name=a-${oc.env:SECRET,x}", "runs=${hydra:run.dir}"])
def test_nothing_is_taken_from_the_environment(monkeypatch, word):
    monkeypatch.setenv("SECRET", "told")
    with pytest.raises(UsageError, match="only keys can be referred to") as caught:
        configs.compose([word])
    assert "told" not in str(caught.value)


def test_a_constructor_of_ones_own_is_known_by_a_file_in_conf_and_only_there(saved, tmp_path, monkeypatch):
    """Also one of another package; a run that was trained with it predicts where conf/ has that file."""
    (tmp_path / "mine.py").write_text("def loss(*, alpha: float = 1.0):\n    return alpha\nNOTHING = 3\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "mine", raising=False)
    path = saved("loss", {"_target_": "mine.loss", "alpha": 2.0})
    with pytest.raises(BonepipeError, match=r"_target_ 'mine.loss' .* known as soon as a file in .*loss names it"):
        configs.load(path)
    with pytest.raises(UsageError, match=r"_target_ 'mine.loss'"):
        configs.compose(["loss._target_=mine.loss"])
    conf = shutil.copytree(configs.conf_dir(), tmp_path / "conf")
    (conf / "loss" / "mine.yaml").write_text("_target_: mine.loss\nalpha: 1.0\n")
    monkeypatch.setenv("BONEPIPE_CONF", str(conf))
    assert configs.build(configs.load(path), "loss") == 2.0
    assert configs.build(configs.compose(["loss=mine"]), "loss") == 1.0
    with pytest.raises(UsageError, match=r"optimizer: _target_ 'mine.loss'"):
        configs.compose(["optimizer._target_=mine.loss"])
    (conf / "loss" / "mine.yaml").write_text("_target_: mine.NOTHING\n")
    with pytest.raises(UsageError, match=r"'mine.NOTHING' cannot be called"):
        configs.compose(["loss=mine"])
