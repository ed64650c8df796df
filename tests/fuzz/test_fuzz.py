"""A short round of every target: no input fails, and the engine notices one that does."""

import os
import subprocess
import sys

import pytest
from hypothesis import strategies as st

from bonepipe.errors import BonepipeError

from . import __main__, engine, mutate, plain
from .targets import TARGETS

USUAL, FEW = 200, {"overrides": 8, "configs": 24, "metadata": 80}  # inputs of a target


@pytest.mark.parametrize("name", TARGETS)
def test_hostile_files_are_refused_in_one_line_or_taken_as_they_are(name):
    results = __main__.run([name], 600, FEW.get(name, USUAL), seed=1)
    assert [failure for _, outcome in results for failure in outcome.failures.items()] == []
    assert all(outcome.taken + outcome.refused == FEW.get(name, USUAL) for _, outcome in results)
    assert sum(outcome.refused for _, outcome in results) > 0
    assert "| 0 " in __main__.table(results)


def attempt(check, folder, **settings):
    target = engine.Target("x", st.just("x"), str.encode, lambda rng, text: text, check, "x.txt", **settings)
    return engine.fuzz(target, folder, inputs=3)


def fail(message, error=BonepipeError):
    def check(path, content):
        raise error(message.format(path=path))

    return check


@pytest.mark.parametrize(
    ("check", "kind"),
    [
        (fail("x", KeyError), "KeyError at tests/fuzz/test_fuzz.py"),
        (fail("{path}: a\nb"), "message of several lines"),
        (fail("{path}: " + "a" * 3000), "message of more than 2000 letters"),
        (fail("a"), "message without the file's name"),
        (lambda path, content: (path.parent.parent / "y").write_text("a"), "open of"),
        (lambda path, content: (path.parent.parent / "z").mkdir(exist_ok=True), "os.mkdir of"),
        (lambda path, content: subprocess.run([sys.executable, "-c", ""], check=True), "subprocess.Popen"),
        (lambda path, content: os.system("true"), "os.system"),
    ],
)
def test_what_must_not_be_is_noticed(tmp_path, check, kind):
    (tmp_path / "files").mkdir()
    outcome = attempt(check, tmp_path / "files")
    assert outcome.inputs == 3
    assert any(found.startswith(kind) for found in outcome.failures), outcome.failures


def test_an_endless_loop_is_ended(tmp_path, monkeypatch):
    def check(path, content):
        while True:
            pass

    monkeypatch.setattr(engine, "LIMIT", 0.02)
    outcome = attempt(check, tmp_path)
    assert any(kind.startswith("TooLong") for kind in outcome.failures)
    assert "takes more than 0.02 s" in outcome.failures


def test_a_typed_error_is_none_and_the_shortest_input_is_kept(tmp_path):
    assert not attempt(fail("{path}: no"), tmp_path).failures
    outcome = engine.Outcome()
    for content in (b"long", b"no", b"longer"):
        outcome.fail("kind", content)
    assert outcome.failures == {"kind": b"no"}


@pytest.mark.parametrize("text", ["1 2 5 1", "", " 7 1 "])
def test_the_plain_parser_brings_texts_back(text):
    assert plain.text_of(plain.pixels(plain.runs(text))) == text.strip()


@pytest.mark.parametrize("text", ["1", "1 0", "0 1", "2 2 1 1", "1 2 2 1", "+1 2", "1.0 2", "x", f"{plain.LARGEST} 2"])
def test_the_plain_parser_refuses(text):
    assert plain.runs(text) is None


def test_damages_leave_their_input(tmp_path):
    import random

    rng, table, tree = random.Random(0), [["a", "b"], ["1 2", "3"]], {"a": [1, {"b": 2}]}
    for _ in range(300):
        mutate.rows(rng, table)
        mutate.tree(rng, tree)
    assert (table, tree) == ([["a", "b"], ["1 2", "3"]], {"a": [1, {"b": 2}]})


def test_the_page_keeps_what_others_wrote_in_it(tmp_path, monkeypatch, capsys):
    page = tmp_path / "reliability.md"
    page.write_text("# Reliability\n\nother\n")
    monkeypatch.setattr(__main__, "PAGE", page)
    monkeypatch.setattr(sys, "argv", ["fuzz", "--only", "folds", "--examples", "50", "--seconds", "5", "--write"])
    assert __main__.main() == 0
    text = page.read_text()
    assert text.startswith("# Reliability\n\nother\n\n<!-- fuzz:start -->\n`make fuzz` tried 50 files")
    assert "| fold files " in text
    assert capsys.readouterr().out.strip() in text
