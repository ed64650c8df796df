import json

import pytest

from bonepipe import cli
from bonepipe import config as configs
from bonepipe.commands import gains

FILE = """
base: experiment=debug data.root={root} data.name=gains folds=holdout folds.file={folder}/folds.csv runs={{runs}}
  model.encoder=tu-mobilenetv3_small_050 model.settings.decoder_channels=[16,8,8,8,8]
rows:
  - name: one view
    commands:
      - train-all {{base}} name=a trainer.epochs=1 tta=none
      - submit {{base}} name=a trainer.epochs=1 tta=none
    run: a
  - name: again
    commands: []
    run: a
  - name: once more
    more: true
    over: one view
    commands: []
    run: a
"""


@pytest.fixture
def words(phantom_root, tmp_path):
    """A file of three steps, and the command line for it."""
    path = tmp_path / "gains.yaml"
    path.write_text(FILE.format(root=phantom_root, folder=tmp_path))
    return ["gains", str(path), "--runs", str(tmp_path / "runs"), "--document", str(tmp_path / "gains.md")]


def test_steps_are_taken_once_and_compared(words, tmp_path, capsys, monkeypatch):
    assert cli.main(words) == 0
    done = json.loads((tmp_path / "runs" / "gains.json").read_text())
    assert list(done) == ["one view", "again"]
    scores = json.loads((tmp_path / "runs" / "a" / "scores.json").read_text())
    assert all(done["one view"][key] == done["again"][key] == scores[key] for key in gains.SCORES)
    assert done["one view"]["seconds"] > done["again"]["seconds"] >= 0
    table = [[cell.strip() for cell in line.split("|")[1:-1]] for line in capsys.readouterr().out.splitlines()]
    again = next(row for row in table if row and row[0] == "again")
    assert again[1:8] == [*(f"{scores[key]:.4f}" for key in gains.SCORES), "+0.0000", "+0.0000", "one view"]
    assert 0 < done["one view"]["core_seconds"] < 64 * done["one view"]["seconds"]
    assert "| again " in (tmp_path / "gains.md").read_text()
    monkeypatch.setattr(gains.subprocess, "run", None)  # what is done is not done again
    assert cli.main(words) == 0
    assert "once more" not in capsys.readouterr().out
    assert cli.main([*words, "--more"]) == 0
    assert cli.main(words) == 0  # and what was done once is shown from then on
    assert capsys.readouterr().out.count("| once more ") == 2


def test_a_row_is_taken_again_when_commands_before_it_have_changed():
    """Further rows come after all others in what they depend on, and nothing depends on them but further rows."""
    a, b, c, d = (gains.Row(name, ((name,),), name, None, more=name in "bd") for name in "abcd")
    found = {row.name: history for row, history in gains.histories([a, b, c, d])}
    assert found == {"a": ["a"], "b": ["a", "b"], "c": ["a", "c"], "d": ["a", "c", "b", "d"]}


def test_braces_of_a_command_are_its_own(tmp_path):
    path = tmp_path / "gains.yaml"
    path.write_text("base: runs={runs}\nrows: [{name: a, run: a, commands: ['train-all {base} x={y:1}']}]")
    assert gains.read(path, tmp_path)[0].commands == (("train-all", f"runs={tmp_path}", "x={y:1}"),)


def test_a_command_that_fails_stops_the_steps_and_is_named(words, tmp_path, capsys):
    path = tmp_path / "gains.yaml"
    path.write_text(path.read_text().replace("train-all {base}", "train-all loss=dcie {base}"))
    assert cli.main(words) == 1
    assert "one view: `bonepipe train-all " in capsys.readouterr().err
    assert not (tmp_path / "runs" / "gains.json").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rows: []", "base and rows"),
        ("base: x\nrows: [{name: a, run: a}]", "'commands'"),
        ("base: x\nrows: [{name: a, run: a, commands: [b], over: c}]", "there is no row 'c'"),
        ("base: [", "cannot be read"),
    ],
)
def test_a_file_that_lacks_something_is_refused(tmp_path, capsys, text, message):
    path = tmp_path / "gains.yaml"
    path.write_text(text)
    assert cli.main(["gains", str(path)]) == 2
    assert message in capsys.readouterr().err


def test_the_steps_of_the_project_compose():
    rows = gains.read(gains.Path("conf/gains.yaml"), gains.Path("g"))
    commands = [command for row in rows for command in row.commands]
    named = {name: [] for name, *_ in commands}
    for name, *overrides in commands:
        if name in ("train-all", "submit", "pseudo", "suspects"):
            named[name].append(configs.compose(overrides)["name"])
    trained = set(named["train-all"])
    assert trained >= set(named["submit"]) | set(named["pseudo"]) | set(named["suspects"])
    made = {command[-1].removeprefix("g/") for command in commands if command[0] in ("ensemble", "secondlook")}
    assert {row.run for row in rows} <= trained | made
