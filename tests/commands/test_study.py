import numpy as np
import pytest

from bonepipe import cli
from bonepipe.commands import study
from bonepipe.report import markdown

STUDY = """
base:
  - experiment=debug
  - data.root={root}
  - data.name=study
  - folds.file={folder}/folds.csv
  - tta=none
  - model.encoder=tu-mobilenetv3_small_050
  - model.settings.decoder_channels=[16,8,8,8,8]
seeds: [4]
changes:
  loss:
    BCE: [loss=bce]
"""


def test_a_study_trains_each_change_once_and_writes_its_table(phantom_root, tmp_path, capsys, monkeypatch):
    path, document = tmp_path / "study.yaml", tmp_path / "docs" / "study.md"
    path.write_text(STUDY.format(root=phantom_root, folder=tmp_path))
    words = ["study", str(path), "--runs", str(tmp_path / "runs"), "--document", str(document)]
    assert cli.main(words) == 0
    dice = [study.score(tmp_path / "runs" / name) for name in ("base-4", "loss-bce-4")]
    rows = [
        [cell.strip() for cell in line.split("|")[1:-1]] for line in document.read_text().splitlines() if "|" in line
    ]
    assert rows[2] == ["", "base", "", f"{dice[0]:.4f}", "", ""]
    assert rows[3] == [
        "loss",
        "BCE",
        "`loss=bce`",
        f"{dice[1]:.4f}",
        f"{dice[1] - dice[0]:+.4f}",
        "one seed: no telling",
    ]
    assert not list((tmp_path / "runs").rglob("last.ckpt")), "a study must not fill the disk"
    monkeypatch.setattr(study.subprocess, "run", None)  # what is finished is not done again
    assert cli.main(words) == 0
    assert document.read_text().count("| base") == 1


def test_a_misspelt_override_is_refused_before_anything_runs(phantom_root, tmp_path, capsys):
    path = tmp_path / "study.yaml"
    path.write_text(STUDY.format(root=phantom_root, folder=tmp_path).replace("loss=bce", "loss=bcd"))
    assert cli.main(["study", str(path), "--runs", str(tmp_path / "runs")]) == 2
    assert "bce" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("text", "field"), [("seeds: [1]", "base"), ("base: [a=b]\nseeds: 3", "seeds"), ("[1]", "base")]
)
def test_a_study_that_lacks_a_field_is_refused(tmp_path, capsys, text, field):
    path = tmp_path / "study.yaml"
    path.write_text(text)
    assert cli.main(["study", str(path)]) == 2
    assert f"study.yaml: {field}: expected" in capsys.readouterr().err


def test_the_verdict_needs_more_than_the_noise_of_the_seeds():
    # Student's t at 97.5% with two degrees of freedom is 4.3027.
    assert study.verdict(np.array([0.01, 0.02, 0.03])) == ("+0.0200 ± 0.0248", "no difference beyond the noise")
    assert study.verdict(np.array([0.019, 0.02, 0.021]))[1] == "gains"
    assert study.verdict(np.array([-0.019, -0.02, -0.021]))[1] == "costs"


def test_the_study_of_the_project_composes():
    content = study.read(study.Path("conf/study.yaml"))
    variants = study.variants_of(content)
    names = {study._name(variant, seed) for variant in variants for seed in content["seeds"]}
    assert len(names) == len(variants) * len(content["seeds"])
    for variant in variants:
        study.configs.compose(study.words_of(content, variant, 0, "runs"))


def test_a_block_of_a_document_is_replaced_and_the_rest_stays(tmp_path):
    path = tmp_path / "notes.md"
    path.write_text("# Notes\n\nbefore\n\n<!-- a:start -->\nold\n<!-- a:end -->\n\nafter\n")
    markdown.replace_block(path, "a", "new", "Notes")
    assert path.read_text() == "# Notes\n\nbefore\n\n<!-- a:start -->\nnew\n<!-- a:end -->\n\nafter\n"
    markdown.replace_block(path, "b", "more", "Notes")
    assert path.read_text().endswith("after\n\n<!-- b:start -->\nmore\n<!-- b:end -->\n")
