from pathlib import Path

import numpy as np
import pytest

from bonepipe.cli import main
from bonepipe.inference import submission
from bonepipe.labels import rle

SHAPE = (11, 7)
KEYS = [(f"image{i}.png", label) for i in range(3) for label in ("Lunate", "Ulna")]


@pytest.fixture
def ballots(tmp_path):
    """Four CSVs and their masks bool `[file, row, H, W]`; one row is empty everywhere."""
    masks = np.random.default_rng(0).random((4, len(KEYS), *SHAPE)) < 0.5
    masks[:, 2] = False
    paths = [tmp_path / f"{name}.csv" for name in "abcd"]
    for path, rows in zip(paths, masks, strict=True):
        submission.write(path, ((*key, rle.encode(mask)) for key, mask in zip(KEYS, rows, strict=True)))
    return [str(path) for path in paths], masks


def vote(tmp_path, *arguments):
    output = tmp_path / "out.csv"
    assert main(["vote", *arguments, "-o", str(output)]) == 0
    table = submission.read(output)
    assert [row.key for row in table.rows] == KEYS
    return np.stack([rle.decode(row.rle, SHAPE) for row in table.rows])


@pytest.mark.parametrize(
    ("files", "arguments", "expected"),
    [
        (3, [], lambda m: m.sum(0) >= 2),
        (4, [], lambda m: m.sum(0) >= 3),  # two of four is a tie: background
        (4, ["--min-votes", "2"], lambda m: m.sum(0) >= 2),
        (2, [], lambda m: m[0] & m[1]),
        (2, ["--min-votes", "1"], lambda m: m[0] | m[1]),
        (3, ["--weights", "2,1,1"], lambda m: 2 * m[0] + m[1] + m[2] > 2),
        (3, ["--weights", "2,1,1", "--min-votes", "2"], lambda m: 2 * m[0] + m[1] + m[2] >= 2),
        (3, ["--weights", "0.1,0.2,0.3"], lambda m: m[0] + 2 * m[1] + 3 * m[2] > 3),
        (3, ["--weights", "0.1,0.2,0.3", "--min-votes", "0.3"], lambda m: m[0] + 2 * m[1] + 3 * m[2] >= 3),
        (4, ["--weights", "1,0,0,0"], lambda m: m[0]),
    ],
)
def test_vote_equals_counting_pixels(tmp_path, ballots, files, arguments, expected):
    paths, masks = ballots
    np.testing.assert_array_equal(vote(tmp_path, *paths[:files], *arguments), expected(masks[:files].astype(int)))


def test_the_output_may_be_an_input(tmp_path, ballots):
    paths, masks = ballots
    assert main(["vote", *paths[:3], "-o", paths[0]]) == 0
    voted = np.stack([rle.decode(row.rle, SHAPE) for row in submission.read(paths[0]).rows])
    np.testing.assert_array_equal(voted, masks[:3].sum(axis=0) >= 2)


def edit(path, change):
    lines = Path(path).read_text().splitlines()
    change(lines)
    Path(path).write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize(
    ("position", "change", "message"),
    [
        (1, lambda lines: lines.insert(2, lines.pop(3)), "b.csv: line 3: image1.png, Lunate where"),
        (1, lambda lines: lines.pop(), "b.csv: ends before image2.png, Ulna (line 7 of"),
        (0, lambda lines: lines.pop(), "a.csv: ends before image2.png, Ulna (line 7 of"),
        (2, lambda lines: lines.append("image9.png,Ulna,"), "a.csv: ends before image9.png, Ulna (line 8 of"),
        (2, lambda lines: lines.append(lines.pop() + " 7"), "c.csv: line 7: image2.png, Ulna: "),
    ],
)
def test_files_that_differ_are_refused_and_nothing_is_written(tmp_path, ballots, capsys, position, change, message):
    paths, _ = ballots
    edit(paths[position], change)
    assert main(["vote", *paths[:3], "-o", str(tmp_path / "out.csv")]) == 1
    assert message in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.csv", "b.csv", "c.csv", "d.csv"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--weights", "1,2"], "2 weights for 3 files"),
        (["--weights", "1,2,x"], "expected numbers"),
        (["--weights", "1,2,nan"], "finite"),
        (["--weights", "1,2,-1"], "not negative"),
        (["--weights", "0,0,0"], "not all zero"),
        (["--min-votes", "0"], "above 0"),
        (["--min-votes", "4"], "at most the total weight, 3"),
        (["--min-votes", "nan"], "above 0"),
    ],
)
def test_impossible_requests_are_wrong_usage(tmp_path, ballots, capsys, arguments, message):
    paths, _ = ballots
    assert main(["vote", *paths[:3], "-o", str(tmp_path / "out.csv"), *arguments]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out.csv").exists()


def test_one_file_is_no_vote_and_a_missing_file_is_named(tmp_path, ballots, capsys):
    paths, _ = ballots
    output = str(tmp_path / "out.csv")
    assert main(["vote", paths[0], "-o", output]) == 2
    assert main(["vote", paths[0], "none.csv", "-o", output]) == 1
    assert "none.csv: cannot be read" in capsys.readouterr().err
