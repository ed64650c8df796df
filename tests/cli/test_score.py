import json
import subprocess
import sys

import numpy as np
import pytest

from bonepipe.cli import main
from bonepipe.labels import rle

SHAPE = (12, 9)
CLASSES = ["finger-1", "Lunate", "Ulna"]


def write_masks(path, seed, usage=False):
    """Random masks by image and class, written as a CSV."""
    rng = np.random.default_rng(seed)
    masks = {(f"image{i}.png", c): rng.random(SHAPE) < rng.random() for i in range(4) for c in CLASSES}
    half = {f"image{i}.png": ",Private" if i < 1 else ",Public" for i in range(4)} if usage else {}
    lines = ["image_name,class,rle" + (",Usage" if usage else "")]
    lines += [f"{image},{label},{rle.encode(mask)}{half.get(image, '')}" for (image, label), mask in masks.items()]
    path.write_text("\n".join(lines) + "\n")
    return masks


def mean_dice(predicted, true, wanted=lambda image, label: True):
    values = [
        (2 * (predicted[key] & true[key]).sum() + 1e-4) / (predicted[key].sum() + true[key].sum() + 1e-4)
        for key in true
        if wanted(*key)
    ]
    return np.mean(values)


@pytest.fixture
def files(tmp_path):
    paths = tmp_path / "pred.csv", tmp_path / "truth.csv"
    return paths, write_masks(paths[0], 0), write_masks(paths[1], 1, usage=True)


def test_json_is_one_object_with_the_scores_of_the_pixels(files, capsys):
    (prediction, truth), predicted, true = files
    assert main(["score", str(prediction), str(truth), "--json"]) == 0
    scores = json.loads(capsys.readouterr().out)
    assert set(scores) == {"dice", "miou", "pixel_accuracy", "per_class", "public", "private"}
    assert scores["dice"] == pytest.approx(mean_dice(predicted, true), abs=1e-9)
    first = "image0.png"
    assert scores["private"] == pytest.approx(mean_dice(predicted, true, lambda i, _: i == first), abs=1e-9)
    assert scores["public"] == pytest.approx(mean_dice(predicted, true, lambda i, _: i != first), abs=1e-9)
    assert set(scores["per_class"]) == set(CLASSES)
    for label, value in scores["per_class"].items():
        assert value == pytest.approx(mean_dice(predicted, true, lambda _, name, label=label: name == label), abs=1e-9)


def test_the_table_is_sorted_from_worst_to_best_and_ends_with_the_means(files, capsys):
    (prediction, truth), predicted, true = files
    assert main(["score", str(prediction), str(truth)]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines() if "---" not in line]
    values = {name: float(value) for name, value in rows}
    assert [name for name, _ in rows[-3:]] == ["public", "private", "dice"]
    assert {name for name, _ in rows[:-3]} == set(CLASSES)
    in_order = [values[name] for name, _ in rows[:-3]]
    assert in_order == sorted(in_order)
    assert values["dice"] == pytest.approx(mean_dice(predicted, true), abs=5e-6)


def test_a_missing_row_is_an_error_that_names_it(files, capsys):
    (prediction, truth), _, _ = files
    lines = prediction.read_text().splitlines()
    prediction.write_text("\n".join(lines[:5] + lines[6:]) + "\n")
    assert main(["score", str(prediction), str(truth)]) == 1
    output = capsys.readouterr()
    assert output.out == ""
    assert "pred.csv: no row for image1.png, Lunate" in output.err


@pytest.mark.parametrize("command", ["score", "check", "vote"])
def test_file_commands_run_without_torch(command, files):
    (prediction, truth), _, _ = files
    words = {"score": [command, prediction, truth], "vote": [command, prediction, prediction, "-o", "voted.csv"]}
    code = (
        f"import sys\nfrom bonepipe.cli import main\nmain({[str(word) for word in words.get(command, [command])]})\n"
        "sys.exit(bool({'torch', 'pytorch_lightning', 'pandas'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, cwd=prediction.parent).returncode == 0


@pytest.mark.parametrize("command", ["score", "check", "vote"])
def test_help_shows_an_example(command, capsys):
    assert main([command, "--help"]) == 0
    assert f"\n  bonepipe {command} " in capsys.readouterr().out


def test_a_quoted_code_longer_than_the_csv_modules_limit(tmp_path):
    """In a process of its own: the limit holds for all of a process, so another test might have raised it."""
    code, half = (" ".join(f"{2 * i + 1} 1" for i in range(count)) for count in (30_000, 15_000))
    for name, text in (("pred", half), ("truth", code)):
        (tmp_path / f"{name}.csv").write_text(f'image_name,class,rle\na.png,Ulna,"{text}"\n')
    assert len(code) > 200_000
    command = [
        sys.executable,
        "-m",
        "bonepipe",
        "score",
        str(tmp_path / "pred.csv"),
        str(tmp_path / "truth.csv"),
        "--json",
    ]
    scores = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    assert scores["dice"] == pytest.approx(2 * 15_000 / 45_000, abs=1e-6)
