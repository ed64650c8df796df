import copy
import math
import shutil

import pytest
import yaml
from torch import nn

from bonepipe import config as configs
from bonepipe.data.folds import FoldSpec
from bonepipe.data.spec import DataSpec
from bonepipe.errors import BonepipeError, UsageError
from bonepipe.pipeline.steps import training_settings

EXPERIMENTS = sorted(path.stem for path in (configs.conf_dir() / "experiment").glob("*.yaml"))
OPTIONS = {group: sorted(path.stem for path in (configs.conf_dir() / group).glob("*.yaml")) for group in configs.GROUPS}


@pytest.fixture(scope="module")
def demo():
    return configs.compose(["experiment=demo"])


def numbered(number, groups):
    """The first options of all groups, or the second ones, ...: to compose takes as long for one option as for many."""
    return {group: OPTIONS[group][number] for group in groups if number < len(OPTIONS[group])}


def words_of(chosen):
    return [f"{group}={name}" for group, name in chosen.items()]


def assert_refused(overrides, *parts):
    with pytest.raises(UsageError) as caught:
        configs.compose(overrides)
    for part in parts:
        assert part in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_each_experiment_composes_and_builds_its_specs(name):
    config = configs.compose([f"experiment={name}"])
    assert set(config) == {*configs.PLAIN_KEYS, *configs.GROUPS}
    assert isinstance(configs.build(config, "data"), DataSpec)
    assert isinstance(configs.build(config, "folds"), FoldSpec)


@pytest.mark.parametrize("number", range(max(map(len, OPTIONS.values()))))
def test_each_option_of_each_group_passes_the_check(number):
    chosen = numbered(number, configs.GROUPS)
    config = configs.compose([*words_of(chosen), "~experiment"])
    for group, name in chosen.items():
        assert callable(configs.locate(group, config[group]["_target_"])), name


def test_overrides_reach_their_place(demo):
    config = configs.compose(["experiment=demo", "optimizer.lr=1e-5", "data.size=[96,64]", "trainer.patience=3"])
    assert config["optimizer"]["lr"] == 1e-5
    assert configs.build(config, "data").shape == (96, 64)
    changed = configs.differences(demo, config)
    assert changed == {
        "optimizer.lr": (demo["optimizer"]["lr"], 1e-5),
        "data.size": (demo["data"]["size"], [96, 64]),
        "trainer.patience": (None, 3),
    }


def test_the_fold_file_carries_the_datasets_name():
    assert configs.compose(["data=chest", "~experiment"])["folds"]["file"] == "folds/chest.csv"
    assert configs.compose(["data.name=foot"])["folds"]["file"] == "folds/foot.csv"


def test_what_is_built_has_the_declared_types():
    spec = configs.build(configs.compose(["data=chest", "data.mean=1"]), "data")
    assert isinstance(spec.classes, tuple)
    assert isinstance(spec.mean, float)
    assert spec.mirrored_order("horizontal")[:2] == (1, 0)


@pytest.mark.parametrize(
    ("override", "suggestion"),
    [
        ("trainer.epoch=3", "trainer.epochs"),
        ("optimizer.learning_rate=1", "optimizer."),
        ("dta.root=x", "data.root"),
        ("sed=1", "seed"),
        ("los=bce", "loss"),
        ("model.settings.decoder_chanels=[1]", "model.settings.decoder_channels"),
    ],
)
def test_a_misspelt_key_is_refused_with_the_nearest(override, suggestion):
    assert_refused([override], repr(override.split("=")[0]), f"did you mean '{suggestion}")


def test_a_misspelt_key_is_blamed_not_its_neighbours():
    assert_refused(
        ["model.settings.decoder_channels=[8]", "data._target_=bonepipe.data.spec.DataSpec", "sed=1"], "'sed'"
    )


def test_a_setting_that_the_chosen_file_leaves_out_can_be_added():
    assert_refused(["tta=none", "tta.force=true"], "write +tta.force=true to set it")
    assert configs.compose(["tta=none", "+tta.force=true"])["tta"]["force"] is True


def test_a_key_that_is_added_within_a_dictionary_names_the_way():
    assert_refused(["data.swaps={horizontal: [[Radius, Ulna]]}"], "write +data.swaps.horizontal=... to add it")
    composed = configs.compose(["+data.swaps.horizontal=[[Radius,Ulna]]"])
    assert composed["data"]["swaps"] == {"horizontal": [["Radius", "Ulna"]]}


def test_a_group_that_is_taken_away_is_named():
    assert_refused(["~optimizer"], "optimizer: needs a _target_")  # an experiment's settings are left
    assert_refused(["~optimizer", "~experiment"], "the config lacks optimizer")


@pytest.mark.parametrize(
    "words", [["data.name=${data}"], ["seed=${fold}", "fold=${seed}"], ["data.x=" + "[" * 900], ["data=[[1]]"]]
)
def test_a_value_that_refers_to_itself_or_has_no_end_of_levels_is_refused(words):
    with pytest.raises(UsageError):
        configs.compose(words)


def test_keys_that_are_added_are_refused_where_unknown():
    assert_refused(["+trainer.epoch=3"], "'trainer.epoch'", "did you mean 'trainer.epochs'")
    assert_refused(["+extra=1"], "'extra'")


@pytest.mark.parametrize(
    ("override", "field"),
    [
        ("trainer.epochs=many", "trainer.epochs='many'"),
        ("trainer.epochs=1.5", "trainer.epochs=1.5"),
        ("trainer.precision=64", "trainer.precision"),
        ("optimizer.lr=fast", "optimizer.lr='fast'"),
        ("data.size=wide", "data.size='wide'"),
        ("data.classes=5", "data.classes=5"),
        ("data.palette=[[1,2]]", "data.palette.0"),
        ("folds.count=null", "folds.count=None"),
        ("tta.transforms=3", "tta.transforms=3"),
        ("fold=first", "fold='first'"),
        ("fold=true", "fold=True"),
        ("fold='\"1\"'", "fold="),
        ("runs=3", "runs=3"),
        ("model=null", "model"),
        ("loss=null", "loss"),
    ],
)
def test_a_wrong_type_is_refused_naming_the_field(override, field):
    assert_refused([override], field)


@pytest.mark.parametrize(
    ("override", "field"),
    [
        ("optimizer.lr=inf", "optimizer.lr=inf"),
        ("optimizer.lr=nan", "optimizer.lr=nan"),
        ("optimizer.lr=1e300", "optimizer.lr=1e+300"),
        ("optimizer.lr='inf'", "optimizer.lr='inf'"),
        ("data.mean=nan", "data.mean=nan"),
        ("data.std=nan", "data.std=nan"),
        ("trainer.clip=nan", "trainer.clip=nan"),
        ("thresholds.margin=nan", "thresholds.margin=nan"),
        ("loss.focal_weight=-inf", "loss.focal_weight=-inf"),
        ("loss.boundary={weight: nan}", "loss.boundary.weight=nan"),
        ("optimizer.lookahead={alpha: inf}", "optimizer.lookahead.alpha"),
        ("sampler.balance={rotated: inf}", "sampler.balance.rotated=inf"),
        ("strata.ages=[30, nan]", "strata.ages.1=nan"),
    ],
)
def test_numbers_that_are_not_finite_are_refused_wherever_they_stand(override, field):
    assert_refused([override], field)


@pytest.mark.parametrize(("group", "key"), [("optimizer", "lr"), ("loss", "focal_weight"), ("data", "std")])
def test_numbers_that_are_not_finite_are_never_built(demo, group, key):
    given = [nn.Conv2d(1, 1, 1)] if group == "optimizer" else []
    with pytest.raises(UsageError, match=rf"{group}.*{key}=nan"):
        configs.build({group: demo[group] | {key: math.nan}}, group, *given)


def test_a_misspelt_name_of_a_fixed_set_is_refused_with_the_nearest():
    assert_refused(["transfer.mode=frozn"], "transfer.mode='frozn'", "did you mean 'frozen'?")
    assert_refused(["+folds.kind=grop"], "folds.kind='grop'", "did you mean 'group'?")
    assert_refused(["data.strata=[wirst]"], "data.strata.0", "did you mean 'wrist'?")


def test_an_unknown_option_lists_the_known_ones():
    assert_refused(["loss=dcie"], "loss has no option 'dcie'", "did you mean 'dice'?", "bce, bce_dice, dice")
    assert_refused(["experiment=nothing"], "experiment has no option 'nothing'", "demo")
    assert_refused(["~data"], "data")


@pytest.mark.parametrize("word", ["demo", "=3", "loss"])
def test_a_word_that_is_no_override(word):
    assert_refused([word], repr(word), "key=value")


def test_a_value_that_cannot_be_parsed_names_the_way_out():
    assert_refused(["data.root=/data/hands(2)"], "'data.root=/data/hands(2)'", "quote")
    assert configs.compose(["data.root='/data/hands(2)'"])["data"]["root"] == "/data/hands(2)"


@pytest.mark.parametrize("target", ["os.system", "bonepipe_evil.run", "builtins.eval"])
def test_a_target_outside_is_refused(target):
    assert_refused([f"tracking._target_={target}"], "tracking: _target_", repr(target), "is not what an option")


@pytest.mark.parametrize("target", ["bonepipe.nothing.f", "bonepipe.config.nothing"])
def test_a_target_that_is_not_there(target, tmp_path, monkeypatch):
    conf = shutil.copytree(configs.conf_dir(), tmp_path / "conf")
    (conf / "tracking" / "mine.yaml").write_text(f"_target_: {target}\n")
    monkeypatch.setenv("BONEPIPE_CONF", str(conf))
    assert_refused(["tracking=mine"], "tracking: cannot find", target)


@pytest.mark.parametrize(
    "name", ["", ".", "..", ".store", "/tmp/x", "a/../b", "x" * 201, "손" * 70, "a\nb", "\udcff", "a\\b"]
)
def test_a_name_that_is_no_folder_below_runs_is_refused(demo, name):
    with pytest.raises(UsageError, match="one folder below runs="):
        configs.check_plain(demo | {"name": name})


@pytest.mark.parametrize("name", ["손뼈", "a b", "50%", "a$b$", "x" * 200, "demo.v2"])
def test_other_names_are_fine(demo, name):
    configs.check_plain(demo | {"name": name})


def test_check_names_what_is_missing(demo):
    for change, reason in (
        (lambda c: c.pop("loss"), "lacks loss"),
        (lambda c: c["data"].pop("_target_"), "data: needs a _target_"),
        (lambda c: c["data"].pop("classes"), "data: bonepipe.data.spec.DataSpec needs classes"),
        (lambda c: c["data"].update(sise=3), "takes no 'data.sise'; did you mean 'data.size'"),
        (lambda c: c.update(sede=3), "takes no 'sede'; did you mean 'seed'"),
    ):
        config = copy.deepcopy(demo)
        change(config)
        with pytest.raises(UsageError, match=reason):
            configs.check(config)


def test_a_value_that_the_constructor_refuses_names_the_group(demo):
    with pytest.raises(UsageError, match=r"folds: folds\.count=1: at least 2"):
        configs.build(configs.compose(["folds.count=1"]), "folds")


def test_save_and_load_round_trip(demo, tmp_path):
    config = demo | {"optimizer": demo["optimizer"] | {"lr": 1e-5}, "name": "name: with # signs"}
    path = tmp_path / "deep" / "config.yaml"
    configs.save(config, path)
    assert configs.load(path) == config
    assert configs.differences(config, configs.load(path)) == {}


@pytest.mark.parametrize(
    "content", [b"a: [", b"- 1\n", b"", b"\xff\xfe\x00", b"name: x\n", b"os: !!python/object:os.x\n"]
)
def test_a_damaged_config_file_is_refused(tmp_path, content):
    (tmp_path / "config.yaml").write_bytes(content)
    with pytest.raises(BonepipeError, match=r"config\.yaml: "):
        configs.load(tmp_path / "config.yaml")
    with pytest.raises(BonepipeError, match=r"none\.yaml: cannot read"):
        configs.load(tmp_path / "none.yaml")


def test_a_saved_config_cannot_name_foreign_code(demo, tmp_path):
    configs.save(demo | {"tracking": {"_target_": "os.system"}}, tmp_path / "config.yaml")
    with pytest.raises(BonepipeError, match=r"config\.yaml: tracking: _target_ 'os\.system' is not what"):
        configs.load(tmp_path / "config.yaml")


def test_differences_by_dotted_key():
    old = {"a": {"b": 1, "c": [1, 2]}, "d": None, "e": {"f": 1}, "ef": 1}
    new = {"a": {"b": 2, "c": [1, 2]}, "d": None, "e": {"f": 2, "g": {}}, "ef": 2}
    assert configs.differences(old, new) == {"a.b": (1, 2), "e.f": (1, 2), "e.g": (None, {}), "ef": (1, 2)}
    assert configs.differences(old, new, ignore=["e", "a.b"]) == {"ef": (1, 2)}
    assert configs.differences(old, old) == {}


def test_a_setting_of_a_later_version_has_its_default_in_an_older_config():
    new = configs.compose(["experiment=demo"])
    old = copy.deepcopy(new)
    for key in ("keep_epochs", "patience", "overfit_batches"):
        del old["trainer"][key]
    assert configs.differences(old, new) == configs.differences(new, old) == {}
    new["trainer"]["keep_epochs"] = 3
    assert configs.differences(old, new) == {"trainer.keep_epochs": (0, 3)}


FREE = ("loss", "optimizer", "scheduler", "averaging", "augment", "mixing", "sampler")  # to choose in any experiment


@pytest.mark.parametrize("experiment", ["demo", "chest", "debug"])
@pytest.mark.parametrize("number", range(max(len(OPTIONS[group]) for group in FREE)))
def test_an_experiment_leaves_every_option_as_its_file_has_it(experiment, number):
    """Settings of one option written into an experiment would be refused by another, or make it something else."""
    shared = {"optimizer": {"lr"}}  # what every option of a group has, an experiment may set
    chosen = numbered(number, FREE)
    composed = configs.compose([f"experiment={experiment}", *words_of(chosen)])
    for group, name in chosen.items():
        written = yaml.safe_load((configs.conf_dir() / group / f"{name}.yaml").read_text())
        fixed = {k: v for k, v in written.items() if k not in shared.get(group, ()) and not str(v).startswith("${")}
        assert composed[group].keys() == written.keys()
        assert {key: composed[group][key] for key in fixed} == fixed


def test_the_conf_of_another_project_is_never_taken(tmp_path, monkeypatch):
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "config.yaml").write_text("name: another project's\n")
    before = configs.conf_dir()
    monkeypatch.chdir(tmp_path)
    assert configs.conf_dir() == before
    assert configs.compose(["experiment=debug"])["name"] == "debug"
    monkeypatch.setenv("BONEPIPE_CONF", "conf")
    assert configs.conf_dir() == tmp_path / "conf"
    monkeypatch.setenv("BONEPIPE_CONF", str(tmp_path))
    with pytest.raises(BonepipeError, match=f"BONEPIPE_CONF={tmp_path}: no config.yaml there"):
        configs.conf_dir()


def test_a_file_of_settings_that_is_no_yaml_is_one_line(tmp_path, monkeypatch):
    conf = shutil.copytree(configs.conf_dir(), tmp_path / "conf")
    monkeypatch.setenv("BONEPIPE_CONF", str(conf))
    (conf / "loss" / "bce.yaml").write_text("smooth: 1\nsmooth: 2\n")
    assert_refused(["loss=bce"], "loss/bce.yaml", "found duplicate key smooth")
    (conf / "loss" / "bce.yaml").write_text("a: [")
    assert_refused(["loss=bce"], "loss/bce.yaml")


def test_how_an_experiment_is_called_and_searched_makes_no_other_experiment(demo):
    changed = configs.compose(["experiment=demo", "search.trials=3", "cam.steps=7"])
    assert set(configs.differences(demo, changed)) == {"search.trials", "cam.steps"}
    assert training_settings(changed) == training_settings(demo)


def test_a_dataset_of_ones_own_is_described_in_four_lines(tmp_path, monkeypatch):
    shutil.copytree(configs.conf_dir(), tmp_path / "conf")
    monkeypatch.setenv("BONEPIPE_CONF", str(tmp_path / "conf"))
    text = "defaults: [plain]\nname: foot\nroot: data/foot\nclasses: [Talus, Calcaneus]\n"
    (tmp_path / "conf" / "data" / "foot.yaml").write_text(text)
    config = configs.compose(["data=foot"])
    spec = configs.build(config, "data")
    assert (spec.name, spec.root, spec.classes, spec.strata) == ("foot", "data/foot", ("Talus", "Calcaneus"), ())
    assert config["folds"]["file"] == "folds/foot.csv"
    assert configs.compose(["experiment=demo", "data=foot"])["data"]["size"] == 160
    with pytest.raises(UsageError, match=r"data\.classes must be a list"):
        configs.build(configs.compose(["data=plain"]), "data")


def test_a_key_that_another_option_of_the_group_takes_is_told_at_once():
    """Not after a first hint to write it with a plus."""
    assert_refused(["loss=bce", "loss.focal_weight=1"], "BinaryCrossEntropy takes no 'loss.focal_weight'")
    assert_refused(["loss=bce", "loss.alpha=1"], "takes no 'loss.alpha'; it takes loss.label_smoothing")
