import re

import pytest

from bonepipe.cli.arguments import make_parser
from bonepipe.config import GROUPS
from bonepipe.errors import UsageError


@pytest.fixture
def parser():
    """A command with files, flags of all kinds and overrides."""
    result = make_parser("work", "Work.", keys=["name", "trainer", "tta.weights"], examples="bonepipe work a", run=True)
    result.add_argument("files", nargs="*")
    result.add_argument("-o", "--output")
    result.add_argument("--mean", choices=("arithmetic", "geometric"))
    result.add_argument("--pair", nargs=2)
    result.add_argument("--json", action="store_true")
    return result


def test_words_are_told_apart_wherever_they_stand(parser):
    words = ["a.png", "tta=none", "-o", "x=1", "+data.swaps.h=[[a,b]]", "--json", "b.png", "~experiment", "++seed=3"]
    given = parser.read([*words, "--run", "runs/a=b", "--pair", "c=d", "e=f", "group@_global_.x=1", "--mean=geometric"])
    assert given.files == ["a.png", "b.png"]
    assert given.output == "x=1"
    assert given.pair == ["c=d", "e=f"]
    assert str(given.run) == "runs/a=b"
    assert given.json
    assert given.mean == "geometric"
    expected = ["tta=none", "+data.swaps.h=[[a,b]]", "~experiment", "++seed=3", "group@_global_.x=1"]
    assert given.overrides == expected


def test_a_file_with_an_equals_sign_is_a_file(parser, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "seed=3").touch()
    (tmp_path / "~x").touch()
    given = parser.read(["seed=3", "seed=4", "~x"])
    assert given.files == ["seed=3", "~x"]
    assert given.overrides == ["seed=4"]
    assert make_parser("train", "Train.", keys=[]).read(["seed=3"]).overrides == ["seed=3"]  # which takes no files
    assert parser.read(["--", "seed=4"]).files == ["seed=4"]


def test_what_can_be_no_files_name_is_an_override(parser):
    word = "data.external=[" + "x" * 5000 + "]"
    assert parser.read([word]).overrides == [word]
    assert parser.read(["name=a\0b"]).overrides == ["name=a\0b"]


def test_a_command_without_settings_takes_words_as_they_are():
    parser = make_parser("vote", "Vote.")
    parser.add_argument("files", nargs="+")
    given = parser.read(["a=1.csv", "~b"])
    assert given.files == ["a=1.csv", "~b"]
    assert given.overrides == []
    assert "KEY=VALUE" not in parser.format_help()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--jsn"], "no flag '--jsn' here; did you mean '--json'?"),
        (["--outptu=3"], "no flag '--outptu' here; did you mean '--output'?"),
        (["-x"], "no flag '-x' here; settings are overrides, key=value"),
        (["--mean", "geometirc"], "did you mean 'geometric'?"),
        (["-o"], "expected one argument"),
        (["--js"], "no flag '--js' here"),  # no abbreviations: they would change with every new flag
    ],
)
def test_wrong_usage_is_one_line_with_the_nearest_name(parser, words, message):
    with pytest.raises(UsageError, match=re.escape(message)) as caught:
        parser.read(words)
    assert "\n" not in str(caught.value)


def test_a_word_too_many_is_named():
    with pytest.raises(UsageError, match="'demo' is not an override; write key=value"):
        make_parser("train", "Train.", keys=[]).read(["demo"])
    with pytest.raises(UsageError, match="one argument too many: 'demo'"):
        make_parser("list", "List.").read(["demo"])


def test_help_shows_each_key_with_its_default_and_meaning(parser):
    text = parser.format_help()
    lines = text.splitlines()
    assert text.startswith("usage: bonepipe work [-h] ")
    assert "[KEY=VALUE ...]" in text
    for key, default, meaning in (
        ("name", "default", "the experiment: results go to <runs>/<name>; a group on the dashboard"),
        ("trainer.epochs", "30", "passes over the training images"),
        ("trainer.workers", "null", "loader processes; null: one a core, at most 8; folds at once share the cores"),
        ("tta.weights", "null", "one a view; null: equal"),
    ):
        assert re.search(rf"^  {re.escape(key)}={default} +{re.escape(meaning)}$", text, re.MULTILINE), key
    assert all(group in text.partition("groups: ")[2] for group in GROUPS)
    assert "`bonepipe options [GROUP]`" in text
    assert lines[-2:] == ["examples:", "  bonepipe work a"]
    assert max(map(len, lines)) <= 120
