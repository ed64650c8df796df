"""The runner of ablations, for real on a tiny phantom, and the project's own files."""

import json
import os
import shutil
import threading
from functools import cache

import pytest
from warm import warm_children

from bonepipe import cli
from bonepipe import config as configs
from bonepipe.errors import BonepipeError
from bonepipe.pipeline import ablation
from bonepipe.pipeline.comparison import TOTALS, read_dice
from bonepipe.report import ablation as report

SHORT = "experiment=debug trainer.epochs=1 trainer.train_batches=1"
LIGHT = f"{SHORT} model.encoder=tu-mobilenetv3_small_050 model.settings.decoder_channels=[16,8,8,8,8]"
DATA = "data.root={root} data.name=small folds.file={folder}/folds.csv tta=none"
CHANGES = f"""
base: {LIGHT} {DATA}
seeds: [4]
over: base
rows:
  - {{{{name: base, train: ""}}}}
  - {{{{group: loss, name: BCE, train: loss=bce}}}}
"""
STEPS = f"""
base: {LIGHT} {DATA} folds=holdout device=cpu runs={{{{runs}}}} name=a
rows:
  - name: one view
    commands:
      - train-all {{{{base}}}}
      - submit {{{{base}}}}
    run: a
  - name: again
    commands:
      - submit {{{{base}}}}
    run: a
  - name: once more
    more: true
    commands:
      - submit {{{{base}}}}
    run: a
"""


@pytest.fixture
def write(phantom_root, tmp_path, monkeypatch):
    """Write a file of rows; gives the command line for it."""
    warm_children(monkeypatch)

    def words(text):
        path = tmp_path / "rows.yaml"
        path.write_text(text.format(root=phantom_root, folder=tmp_path))
        return ["ablation", str(path), "--runs", str(tmp_path / "runs"), "--document", str(tmp_path / "gains.md")]

    return words


def table(text):
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("|")]
    return [dict(zip(rows[0], row, strict=True)) for row in rows[2:]]


def never(*_, **__):
    raise AssertionError("what is done is not done again")


def test_each_change_is_trained_once_and_compared_with_the_base(write, tmp_path, capsys, monkeypatch):
    words = write(CHANGES)
    assert cli.main(words) == 0
    base, bce = table((tmp_path / "gains.md").read_text())
    folders = {path.name[:-9]: path for path in (tmp_path / "runs").glob("*-4-*")}
    dice = {}
    for name, folder in folders.items():
        values = list(read_dice(folder / "fold-0" / "oof_dice.csv").values())
        dice[name] = sum(values) / len(values)
    assert set(dice) == {"base-4", "loss-bce-4"}
    assert {key: base[key] for key in ("group", "row", "settings", "OOF", "OOF gain", "verdict", "over")} == {
        "group": "", "row": "base", "settings": "", "OOF": f"{dice['base-4']:.4f}", "OOF gain": "", "verdict": "",
        "over": "",
    }  # fmt: skip
    assert bce["settings"] == "`loss=bce`"
    assert bce["OOF gain"] == f"{dice['loss-bce-4'] - dice['base-4']:+.4f}"
    assert bce["verdict"] == "one seed: no telling"
    costs = {row["row"]: row for row in json.loads((tmp_path / "runs" / "ablation.json").read_text()).values()}
    assert bce["core-minutes"] == f"{costs['BCE']['core_seconds'] / 60:.1f}"
    assert costs["BCE"]["core_seconds"] > 0
    assert "public" not in bce
    assert not list((tmp_path / "runs").rglob("last.ckpt")), "an ablation must not fill the disk"
    with monkeypatch.context() as patch:
        patch.setattr("subprocess.Popen", never)
        assert cli.main(words) == 0
    assert (tmp_path / "gains.md").read_text().count("| base") == 2  # the row, and what BCE is compared with
    capsys.readouterr()
    changed = write(CHANGES.replace("train: loss=bce", "train: loss=bce_dice"))  # the same name, other settings
    assert cli.main(changed) == 0
    assert table(capsys.readouterr().out)[1]["settings"] == "`loss=bce_dice`"
    folders = [path / "fold-0" / "config.yaml" for path in (tmp_path / "runs").glob("loss-bce-4-*")]
    targets = {configs.read(path)["loss"]["_target_"] for path in folders}
    assert targets == {configs.compose([f"loss={name}"])["loss"]["_target_"] for name in ("bce", "bce_dice")}


def test_steps_are_taken_once_and_compared(write, tmp_path, capsys, monkeypatch):
    words = write(STEPS)
    assert cli.main(words) == 0
    done = {row["row"]: row for row in json.loads((tmp_path / "runs" / "ablation.json").read_text()).values()}
    assert list(done) == ["one view", "again"]
    scores = json.loads((tmp_path / "runs" / "a" / "scores.json").read_text())
    assert all(done["one view"][key] == done["again"][key] == scores[key] for key in TOTALS)
    assert done["one view"]["seconds"] > done["again"]["seconds"] >= 0
    assert 0 < done["one view"]["core_seconds"] < 64 * done["one view"]["seconds"]
    again = table(capsys.readouterr().out)[1]
    titles = ("OOF", "public", "private", "test", "OOF gain", "test gain", "over")
    expected = [scores[key] for key in ("oof_dice", "public", "private", "test_dice")]
    assert [again[title] for title in titles] == [*(f"{v:.4f}" for v in expected), "+0.0000", "+0.0000", "one view"]
    assert "verdict" not in again
    assert "| again " in (tmp_path / "gains.md").read_text()
    with monkeypatch.context() as patch:
        patch.setattr("subprocess.Popen", never)
        assert cli.main(words) == 0
        assert "once more" not in capsys.readouterr().out
    assert cli.main([*words, "--more"]) == 0
    assert cli.main(words) == 0  # and what was done once is shown from then on
    assert capsys.readouterr().out.count("| once more ") == 2


def digests(text, tmp_path):
    path = tmp_path / "rows.yaml"
    path.write_text(text)
    return {task.row.name: task.digest for task in ablation.tasks(ablation.read(path), tmp_path / "runs")}


def test_a_row_is_another_when_settings_of_its_own_or_before_it_are_others(tmp_path):
    """Nothing depends on further rows but further rows."""
    row = "  - {{name: {0}, run: {0}, commands: [train-all name={0}], more: {1}}}\n"
    names = {"a": "false", "b": "true", "c": "false", "d": "true"}
    text = "base: x\nrows:\n" + "".join(row.format(*pair) for pair in names.items())
    before = digests(text, tmp_path)
    assert len(set(before.values())) == 4
    for changed, others in {"a": "abcd", "b": "bd", "c": "cd", "d": "d"}.items():
        now = digests(text.replace(f"train-all name={changed}]", f"train-all name={changed} seed=3]"), tmp_path)
        assert {name for name in names if now[name] != before[name]} == set(others)


def test_an_edited_file_of_settings_is_another_row_and_another_folder_of_runs_is_not(tmp_path, monkeypatch):
    text = 'base: loss=bce\nrows: [{name: a, train: ""}, {name: b, run: b, commands: ["train-all {base} runs={runs}"]}]'
    before = digests(text, tmp_path)
    (tmp_path / "other").mkdir()
    assert digests(text, tmp_path / "other") == before
    conf = tmp_path / "conf"
    for path in configs.conf_dir().rglob("*.yaml"):
        copy = conf / path.relative_to(configs.conf_dir())
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())
    monkeypatch.setenv("BONEPIPE_CONF", str(conf))
    assert digests(text, tmp_path) == before
    path = conf / "loss" / "bce.yaml"
    path.write_text(path.read_text().replace("side_weight: 0.5", "side_weight: 0.25"))
    now = digests(text, tmp_path)
    assert now["a"] != before["a"] and now["b"] != before["b"]


def test_edited_data_make_another_row(tmp_path, phantom_root):
    root = shutil.copytree(phantom_root, tmp_path / "data")
    text = f"base: data.root={root}\nrows: [{{name: a, train: ''}}, {{name: b, run: b, commands: ['submit {{base}}']}}]"
    before = digests(text, tmp_path)
    path = next((root / "train" / "outputs_json").rglob("*.json"))
    times = path.stat()
    path.write_text(path.read_text().replace("finger-1", "finger-2", 1))
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))  # as `cp -p` and archives leave them
    now = digests(text, tmp_path)
    assert now["a"] != before["a"] and now["b"] != before["b"]


def test_braces_and_quotes_of_a_command_are_its_own(tmp_path):
    path = tmp_path / "rows.yaml"
    path.write_text(
        "base: name=n{seed}\nseeds: [7]\nrows: [{name: a, run: a, commands: [\"look {base} 'x y' {runs}/z\"]}]"
    )
    (task,) = ablation.tasks(ablation.read(path), tmp_path)
    assert task.commands == (("look", "name=n7", "x y", f"{tmp_path}/z"),)


def test_a_command_that_fails_stops_the_rows_and_is_named(write, tmp_path, capsys):
    words = write(STEPS.replace("data.name=small", "data.name=small data.train_images=nowhere"))
    assert cli.main(words) == 1
    assert "one view: `bonepipe train-all " in capsys.readouterr().err
    assert not (tmp_path / "runs" / "ablation.json").exists()
    words = write(CHANGES.replace("data.name=small", "data.name=small data.train_images=nowhere"))
    assert cli.main(words) == 1
    assert "log.txt): `bonepipe train " in capsys.readouterr().err


def test_a_misspelt_override_is_refused_before_anything_runs(write, tmp_path, capsys):
    assert cli.main(write(CHANGES.replace("loss=bce", "loss=bcd"))) == 2
    assert "bce" in capsys.readouterr().err
    assert not list((tmp_path / "runs").glob("[!.]*"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("base: x\nrows: []", "at least one"),
        ("rows: [{name: a, train: x}]", "base: Field required"),
        ("base: x\nrows: [{name: a, run: a}]", "rows.0: Value error, a: needs `train`, or `commands` and `run`"),
        ("base: x\nrows: [{name: a, train: x, comands: [b]}]", "rows.0.comands"),
        ("base: x\nrows: [{name: a, train: x, over: c}]", "there is no row 'c'"),
        ("base: x\nrows: [{name: a, train: x}, {name: a, train: y}]", "no two of a name"),
        ("base: x\nseeds: []\nrows: [{name: a, train: x}]", "seeds: name some"),
        ("base: [", "cannot be read"),
        ("[1]", "rows.yaml: "),
    ],
)
def test_a_file_that_lacks_something_is_refused(tmp_path, capsys, text, message):
    path = tmp_path / "rows.yaml"
    path.write_text(text)
    assert cli.main(["ablation", str(path)]) == 2
    assert message in capsys.readouterr().err


def test_a_file_that_is_not_there_is_refused_with_the_nearest(capsys):
    assert cli.main(["ablation", "step"]) == 2
    assert "did you mean 'steps'?; conf/ablation has steps, techniques" in capsys.readouterr().err


def test_the_techniques_of_the_project_compose(tmp_path):
    rows = ablation.read(ablation.find("techniques"))
    tasks = ablation.tasks(rows, tmp_path)
    assert len({task.digest for task in tasks}) == len({task.run for task in tasks}) == 3 * len(rows.rows)


def test_the_steps_of_the_project_compose(tmp_path, monkeypatch):
    cached = cache(configs.compose)  # train-all and submit of a run have the same words
    monkeypatch.setattr(configs, "compose", lambda words: cached(tuple(words)))
    tasks = ablation.tasks(ablation.read(ablation.find("steps")), tmp_path)
    named = {"train-all": set(), "submit": set(), "pseudo": set(), "label-errors": set()}
    made = set()
    for name, *words in (command for task in tasks for command in task.commands):
        if name in named:
            named[name].add(configs.compose(words)["name"])
        elif name in ("ensemble", "cascade"):
            made.add(words[-1].removeprefix(f"{tmp_path}/"))
    assert named["train-all"] >= named["submit"] | named["pseudo"] | named["label-errors"]
    assert {task.row.run for task in tasks} <= named["train-all"] | made


def test_a_training_that_ends_with_0_but_without_results_is_none_and_keeps_its_checkpoint(tmp_path, monkeypatch):
    monkeypatch.setattr(ablation, "BONEPIPE", ("true",))
    row = ablation.Row(name="base", train="")
    task = ablation.Task(row, 4, (("train", "fold=0"),), tmp_path / "base", "digest")
    checkpoint = task.run / "fold-0" / "last.ckpt"
    checkpoint.parent.mkdir(parents=True)
    checkpoint.touch()
    with pytest.raises(BonepipeError, match=r"base \(.*log\.txt\): ended without results"):
        ablation.run([task], tmp_path, False, 1)
    assert checkpoint.is_file()


def test_edited_files_that_settings_name_make_another_row(tmp_path, phantom_root):
    corrections, pseudo = tmp_path / "corrections.csv", tmp_path / "runs" / "made" / "pseudo.csv"
    external = shutil.copytree(phantom_root, tmp_path / "more")
    folds = tmp_path / "folds.csv"
    text = (
        f"base: data.root={phantom_root} folds.file={folds} data.corrections={corrections} data.pseudo={pseudo} "
        f"data.external=[{{root:{external},prefix:more}}]\nrows: [{{name: a, train: ''}}]"
    )
    for path in (corrections, pseudo):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("image_name\n")
    keys = [digests(text, tmp_path)["a"]]
    assert folds.is_file() and digests(text, tmp_path)["a"] == keys[0]
    pseudo.write_text("made by a row before, whose commands count\n")
    assert digests(text, tmp_path)["a"] == keys[0]
    corrections.write_text("image_name,action\n")
    keys.append(digests(text, tmp_path)["a"])
    lines = folds.read_text().splitlines()
    folds.write_text("\n".join([lines[0], *reversed(lines[1:])]) + "\n")
    keys.append(digests(text, tmp_path)["a"])
    next(external.rglob("*.json")).write_text("{}")
    keys.append(digests(text, tmp_path)["a"])
    assert len(set(keys)) == 4


def test_each_seed_of_a_row_has_a_run_of_its_own(tmp_path):
    path = tmp_path / "rows.yaml"
    text = "base: x\nseeds: [3, 4]\nrows: [{{name: a, run: '{run}', commands: ['look name=a-{{seed}}']}}]"
    path.write_text(text.format(run="a-{seed}"))
    assert [task.run for task in ablation.tasks(ablation.read(path), tmp_path)] == [tmp_path / "a-3", tmp_path / "a-4"]
    path.write_text(text.format(run="a"))
    with pytest.raises(BonepipeError, match=r"a: run: a: one for each seed, so let \{seed\} stand in its name"):
        ablation.read(path)


def test_trainings_at_once_have_a_gpu_each_and_a_stopped_one_no_costs(tmp_path, monkeypatch):
    path, used = tmp_path / "rows.yaml", []
    path.write_text("base: loss=bce\nrows: [{name: a, train: ''}, {name: b, train: seed=3}]")
    tasks = ablation.tasks(ablation.read(path), tmp_path)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,6")
    monkeypatch.setattr(ablation, "read_fingerprint", lambda folder: ["out_of_fold"])

    def stopped(children, command, title, env, **options):
        used.append(env["CUDA_VISIBLE_DEVICES"])
        raise KeyboardInterrupt

    monkeypatch.setattr(ablation, "_run", stopped)
    with pytest.raises(KeyboardInterrupt):
        list(ablation._work(tasks[:1], tmp_path, 2))
    barrier = threading.Barrier(2, timeout=20)

    def together(children, command, title, env, **options):
        barrier.wait()
        used.append(env["CUDA_VISIBLE_DEVICES"])
        return {"seconds": 60.0}

    monkeypatch.setattr(ablation, "_run", together)
    costs = {task.row.name: cost for task, cost in ablation._work(tasks, tmp_path, 2)}
    assert sorted(used[1:]) == ["4", "6"]
    assert costs == {"a": {}, "b": {"seconds": 60.0}}
    assert report.cost([cost.get("seconds") for cost in costs.values()]) == ""
    assert report.cost([60.0, 120.0]) == "1.5"
    assert not list(tmp_path.glob(".begun-*"))


def test_what_a_row_took_is_not_told_where_its_result_was_never_written(tmp_path, monkeypatch):
    """A row beside it failed, or the disk was full: the next call finds it done, in no time."""
    path = tmp_path / "rows.yaml"
    path.write_text("base: loss=bce\nrows: [{name: a, train: ''}]")
    (task,) = ablation.tasks(ablation.read(path), tmp_path)
    monkeypatch.setattr(ablation, "read_fingerprint", lambda folder: ["out_of_fold"])
    monkeypatch.setattr(ablation, "_run", lambda *given, **options: {"seconds": 60.0})
    work = ablation._work([task], tmp_path, 1)
    assert next(work) == (task, {"seconds": 60.0})
    with pytest.raises(OSError, match="No space left"):
        work.throw(OSError("No space left"))
    assert list(ablation._work([task], tmp_path, 1)) == [(task, {})]
    assert list(ablation._work([task], tmp_path, 1)) == [(task, {"seconds": 60.0})]
