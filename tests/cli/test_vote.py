import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from bonepipe.cli import main
from bonepipe.data import submission
from bonepipe.labels import rle
from bonepipe.pipeline import vote as command

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


ONLY = ["--only", "Lunate={a},{c}", "--only", "Ulna={d}"]


@pytest.mark.parametrize(
    ("arguments", "lunate", "ulna"),
    [
        (ONLY[:2], lambda m: m[0] & m[2], lambda m: m.sum(0) >= 3),  # a tie of two is background
        (ONLY, lambda m: m[0] & m[2], lambda m: m[3]),
        ([*ONLY, "--min-votes", "1"], lambda m: m[0] | m[2], lambda m: m[3]),
        ([*ONLY, "--weights", "1,1,3,1"], lambda m: m[2], lambda m: m[3]),
        (["--only", "Ulna,Lunate={b}"], lambda m: m[1], lambda m: m[1]),
        (["--only", "Ulna = {b}, {c}, {d}"], lambda m: m.sum(0) >= 3, lambda m: m[1:].sum(0) >= 2),
    ],
)
def test_a_class_may_be_decided_by_some_of_the_files(tmp_path, ballots, arguments, lunate, ulna):
    paths, masks = ballots
    words = [word.format(**dict(zip("abcd", paths, strict=True))) for word in arguments]
    voted = vote(tmp_path, *paths, *words)
    np.testing.assert_array_equal(voted[::2], lunate(masks[:, ::2].astype(int)))
    np.testing.assert_array_equal(voted[1::2], ulna(masks[:, 1::2].astype(int)))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--only", "Lunat={a}"], "a.csv has no class 'Lunat'; did you mean 'Lunate'?"),
        (["--only", "Lunate={a}x"], "a.csvx is not among the files; did you mean"),
        (["--only", "Lunate"], "write CLASS=CSV,CSV"),
        (["--only", "={a}"], "write CLASS=CSV,CSV"),
        (["--only", "Lunate=,"], "write CLASS=CSV,CSV"),
        (["--only", "Lunate={a}", "--only", "Ulna,Lunate={b}"], "Lunate is named twice"),
        (["--only", "Lunate={a},{b}", "--min-votes", "3"], "at most the total weight, 2"),
        (["--only", "Lunate={a}", "--weights", "0,1,1,1"], "gives these files no weight"),
    ],
)
def test_panels_that_cannot_be_are_wrong_usage(tmp_path, ballots, capsys, arguments, message):
    paths, _ = ballots
    words = [word.format(**dict(zip("abcd", paths, strict=True))) for word in arguments]
    assert main(["vote", *paths, "-o", str(tmp_path / "out.csv"), *words]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out.csv").exists()


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_two_hundred_random_votes_equal_counting_pixels_class_by_class(data):
    """Weights in tenths, counted in integers; few and small ones, so that many pixels are tied."""
    files, rows = data.draw(st.integers(2, 5)), data.draw(st.integers(1, 7))
    masks = data.draw(npst.arrays(bool, (files, rows, 3, 4)))
    tenths = data.draw(st.lists(st.integers(1, 3), min_size=files, max_size=files))
    panels = {
        label: sorted(data.draw(st.sets(st.integers(0, files - 1), min_size=1)))
        for label in data.draw(st.sets(st.sampled_from("AB")))
    }
    labels = [data.draw(st.sampled_from("ABC")) for _ in range(rows)]
    least = data.draw(st.none() | st.integers(1, min(tenths)))
    paths, weights = [Path(f"{number}.csv") for number in range(files)], [weight / 10 for weight in tenths]
    ballots = [
        tuple(submission.Row(2, "x", labels[row], rle.encode(masks[file, row])) for file in range(files))
        for row in range(rows)
    ]
    words = [f"{label}={','.join(paths[number].name for number in panel)}" for label, panel in panels.items()]
    given_votes = None if least is None else least / 10
    known = command.parse_panels(words, [path.name for path in paths], weights, given_votes)
    others = command.Panel(tuple(range(files)), weights, command.threshold(given_votes, weights))
    for row, (_, label, text) in enumerate(command.elect_by_class(paths, iter(ballots), known, others)):
        voters = panels.get(label, range(files))
        votes = sum(tenths[file] * masks[file, row].astype(int) for file in voters)
        needed = 2 * votes > sum(tenths[file] for file in voters) if least is None else votes >= least
        assert label == labels[row]
        assert text == rle.encode(needed)
    assert row == rows - 1


def test_fourteen_files_vote_in_the_memory_of_one(tmp_path):
    """What is held at once grows neither with the rows nor, but for a few rows of each, with the files."""
    starts = np.cumsum(np.random.default_rng(0).integers(2, 40, (3000, 60)), axis=1)
    texts = [" ".join(f"{start} 1" for start in row) for row in starts.tolist()]
    sizes, peaks = {}, {}
    for rows in (600, 3000):
        paths = [tmp_path / f"{rows}-{number}.csv" for number in range(14)]
        submission.write(paths[0], ((f"image{number}.png", "Ulna", texts[number]) for number in range(rows)))
        for path in paths[1:]:
            path.symlink_to(paths[0])
        sizes[rows] = paths[0].stat().st_size
        for files in (2, 14):
            peaks[rows, files] = peak_of_vote(paths[:files], tmp_path / "out.csv")
            assert (tmp_path / "out.csv").read_bytes() == paths[0].read_bytes()
    assert peaks[3000, 14] < sizes[3000]
    assert peaks[3000, 14] - peaks[600, 14] < 0.02 * (sizes[3000] - sizes[600])


def peak_of_vote(paths, output):
    """Bytes that Python and NumPy allocated at most while voting."""
    tracemalloc.start()
    try:
        assert main(["vote", *map(str, paths), "-o", str(output)]) == 0
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_quoted_code_longer_than_the_csv_modules_limit(tmp_path):
    code = " ".join(f"{2 * i + 1} 1" for i in range(30_000))
    assert len(code) > 200_000
    for name, text in (("a", code), ("b", code), ("c", "")):
        (tmp_path / f"{name}.csv").write_text(f'image_name,class,rle\na.png,Ulna,"{text}"\n')
    paths = [str(tmp_path / f"{name}.csv") for name in "abc"]
    assert main(["vote", *paths, "-o", str(tmp_path / "out.csv")]) == 0
    assert [row.rle for row in submission.stream(tmp_path / "out.csv")] == [code]
