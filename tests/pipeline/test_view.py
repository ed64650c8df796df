"""What `bonepipe view` opens."""

import csv
import shutil

import pytest
import yaml
from viewed import add_candidates, make_run, settings

from bonepipe import cli
from bonepipe.data import submission
from bonepipe.errors import BonepipeError, UsageError
from bonepipe.labels import rle
from bonepipe.pipeline.view import open_gallery
from bonepipe.report.view import server


@pytest.fixture(scope="module")
def folder(tmp_path_factory, phantom_root):
    folder = tmp_path_factory.mktemp("runs")
    make_run(phantom_root, folder)
    return folder


def test_the_run_of_the_experiment_is_opened_without_being_named(folder, phantom_root):
    gallery = open_gallery([], settings(phantom_root, folder)).gallery
    assert [source.name for source in gallery.sources] == ["demo"]
    train = [image for image in gallery.images if image.split == "train"]
    assert {gallery.folds[image.name] for image in train} == {0, 1}
    assert all(len(gallery.sources[0].dice[image.name]) == 29 for image in train)
    assert set(gallery.strata.values()) <= {"rotated", "straight", "unknown"}


def test_before_anything_is_trained_the_annotations_are_shown(phantom_root, tmp_path):
    opened = open_gallery([], settings(phantom_root, tmp_path))
    assert opened.gallery.sources == []
    assert opened.review is None
    assert "bonepipe label-errors" in opened.hint
    assert any(mask.mask.any() for mask in opened.gallery.truth(0))


def test_a_table_of_test_images_is_scored_against_the_answer(phantom_root, tmp_path, folder):
    answer = submission.read(phantom_root / "answer.csv")
    image = answer.rows[0].image
    empty_ulna = [(row.image, row.label, "" if row.label == "Ulna" else row.rle) for row in answer.rows]
    submission.write(tmp_path / "votes.csv", empty_ulna)
    opened = open_gallery([folder / "runs" / "demo", tmp_path / "votes.csv"], [])
    for _ in opened.gallery.score():
        pass
    scores = dict(zip(opened.gallery.spec.classes, opened.gallery.sources[1].dice[image], strict=True))
    ulna = next(row.rle for row in answer.rows if row.key == (image, "Ulna"))
    assert scores.pop("Ulna") == pytest.approx(rle.dice("", ulna))
    assert set(scores.values()) == {1.0}


def test_two_runs_of_one_name_are_told_apart(folder, phantom_root, tmp_path):
    shutil.copytree(folder / "runs" / "demo", tmp_path / "other" / "demo")
    gallery = open_gallery([folder / "runs" / "demo", tmp_path / "other" / "demo"], []).gallery
    assert [source.name for source in gallery.sources] == [
        str(folder / "runs" / "demo"),
        str(tmp_path / "other" / "demo"),
    ]


def test_what_cannot_be_shown_is_refused_by_name(folder, phantom_root, tmp_path):
    with pytest.raises(UsageError, match=r"nothing.csv: no such folder or file"):
        open_gallery([tmp_path / "nothing.csv"], [])
    with pytest.raises(BonepipeError, match="no run here"):
        open_gallery([tmp_path], [])
    (tmp_path / "other.csv").write_text("image_name,class,rle\na.png,Left Lung,1 1\n")
    with pytest.raises(BonepipeError, match=r"other.csv: its classes are Left Lung, ...; the dataset's are finger-1"):
        open_gallery([tmp_path / "other.csv"], settings(phantom_root, tmp_path))
    with pytest.raises(BonepipeError, match="no folder"):
        open_gallery([folder / "runs" / "demo"], ["data.root=nowhere"])
    with pytest.raises(UsageError, match="experiment=chest: a run has the settings that it was trained with"):
        open_gallery([folder / "runs" / "demo"], ["experiment=chest"])


def test_candidates_of_an_earlier_version_keep_nobody_from_looking(folder, phantom_root, tmp_path, capsys):
    shutil.copytree(folder, tmp_path / "copy")
    run = tmp_path / "copy" / "runs" / "demo"
    add_candidates(run, open_gallery([run], []).gallery.images)
    assert len(open_gallery([run], []).review.candidates) == 3
    with (run / "label_errors.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["rank", "image_name"], [1, "a.png"]])
    opened = open_gallery([run], [])
    assert opened.review is None
    assert "writes it anew" in capsys.readouterr().err
    assert opened.hint == f"bonepipe label-errors --run {run}"


def test_the_server_listens_on_this_machine_alone():
    listening = server.listen(0)
    with listening:
        assert listening.getsockname()[0] == "127.0.0.1"
        port = listening.getsockname()[1]
        with pytest.raises(UsageError, match=f"--port {port}: .*; --port 0 takes any"):
            server.listen(port)
    with pytest.raises(UsageError, match="--port 99999: from 0 to 65535"):
        server.listen(99999)


def test_without_its_packages_the_viewer_says_how_to_get_them(monkeypatch, capsys):
    monkeypatch.setitem(__import__("sys").modules, "uvicorn", None)
    assert cli.main(["view", "--no-browser"]) == 1
    assert "pip install 'bonepipe[view]'" in capsys.readouterr().err


def test_an_ensemble_that_was_never_finished_is_named(folder, tmp_path):
    """As `bonepipe select` leaves one."""
    (tmp_path / "chosen").mkdir()
    (tmp_path / "chosen" / "ensemble.yaml").write_text(f"members: [{{run: {folder / 'runs' / 'demo'}}}]")
    with pytest.raises(BonepipeError, match=r"config\.yaml: is missing, .*`bonepipe ensemble .*ensemble\.yaml -o "):
        open_gallery([tmp_path / "chosen"], [])


@pytest.mark.parametrize("command", ["view", "report"])
def test_cfg_prints_the_settings_of_the_run_that_is_named(folder, command, capsys, monkeypatch):
    monkeypatch.chdir(folder / "runs" / "demo")
    assert cli.main([command, ".", "--cfg", "data.root=elsewhere"]) == 0
    shown = yaml.safe_load(capsys.readouterr().out)
    recorded = yaml.safe_load((folder / "runs/demo/fold-0/config.yaml").read_text())
    assert shown["data"] == {**recorded["data"], "root": "elsewhere"}
