"""A run's folder from somebody else: its config builds what an option builds, whichever command opens it."""

import json

import pytest

from bonepipe import cli
from bonepipe import config as configs

RUN, OUT = "{run}", "{out}"
PLACES = {"run": "evil", "good": "good", "out": "out", "image": "a.png"}
COMMANDS = {
    "predict": ["predict", "{image}", "-o", OUT, "--run", RUN],
    "pseudo": ["pseudo", "--run", RUN],
    "label-errors": ["label-errors", "--run", RUN],
    "ensemble": ["ensemble", RUN, "-o", OUT],
    "a second member": ["ensemble", "{good}", RUN, "-o", OUT],
    "select": ["select", RUN, "{good}", "-o", OUT],
    "cascade": ["cascade", RUN, "{good}", "-o", OUT],
    "second stage": ["cascade", "{good}", RUN, "-o", OUT],
    "export": ["export", RUN, "-o", "{image}.pt2"],
    "submit": ["submit", "--run", RUN],
}


@pytest.fixture(scope="module")
def demo():
    return configs.compose(["experiment=demo"])


@pytest.fixture
def folders(demo, tmp_path):
    """A function: a harmless run and one whose config has a payload, both with one fold that seems finished."""

    def write(group, node):
        for name, config in (("good", demo), ("evil", demo | {group: node})):
            fold = tmp_path / name / "fold-0"
            configs.save(config, fold / "config.yaml")
            configs.save(config, tmp_path / name / "config.yaml")
            entry = {"inputs": {"settings": {}}, "outputs": {}}
            (fold / "fingerprint.json").write_text(json.dumps({"training": entry, "out_of_fold": entry}))
        (tmp_path / "a.png").write_bytes(b"")
        return {name: str(tmp_path / path) for name, path in PLACES.items()}

    return write


@pytest.mark.parametrize("group", ["data", "tracking"])
@pytest.mark.parametrize("command", COMMANDS)
def test_no_command_calls_what_a_strangers_config_names(folders, tmp_path, capsys, group, command):
    touched = tmp_path / "touched"
    node = {"_target_": "bonepipe.training.executors._call", "command": ["touch", str(touched)], "folder": "."}
    places = folders(group, node)
    if command in ("a second member", "select", "second stage"):
        (tmp_path / "good" / "fold-0").rename(tmp_path / "good" / "fold-9")  # so that the other one is read at all
    code = cli.main([word.format(**places) for word in COMMANDS[command]])
    told = capsys.readouterr().err
    assert code in (1, 2)
    assert not touched.exists()
    if command not in ("submit", "a second member", "second stage"):  # which may stop before, at what is unfinished
        assert f"config.yaml: {group}: _target_ 'bonepipe.training.executors._call' is not what an option" in told


def test_a_payload_in_a_config_that_is_compared_is_refused(folders, tmp_path, capsys):
    touched = tmp_path / "touched"
    node = {"_target_": "bonepipe.training.executors._call", "command": ["touch", str(touched)], "folder": "."}
    places = folders("data", node)
    for name in ("good", "evil"):
        (tmp_path / name / "fold-0" / "oof_dice.csv").write_text("image_name,class,dice\na.png,Radius,0.5\n")
    assert cli.main(["compare", places["good"], places["run"]]) in (0, 1, 2)
    assert not touched.exists()
