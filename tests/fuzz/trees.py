"""JSON: annotations, and the files of a run's folder."""

import copy
import json
import math
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st

from bonepipe.data import annotation
from bonepipe.data.folds import read_rule
from bonepipe.data.limits import DEFAULTS
from bonepipe.errors import BonepipeError
from bonepipe.labels import polygon
from bonepipe.labels.bitplane import plane_count
from bonepipe.pipeline import batch_size, comparison, decisions, fold_costs, leaderboard, run_folder, tracked
from bonepipe.training.tracking.identity import Source, identify

from . import mutate
from .engine import Target
from .texts import CLASSES, SIDE

Tree = Any


def as_json(document: Tree) -> bytes:
    """A file's content; infinity and NaN as Python's JSON has them."""
    return json.dumps(document).encode()


points = st.lists(st.tuples(st.integers(-3, SIDE + 3), st.integers(-3, SIDE + 3)), min_size=3, max_size=8)
entries = st.fixed_dictionaries({
    "id": st.just("5f"), "type": st.sampled_from(("poly_seg", "polygon")), "attributes": st.just({}),
    "points": points.map(lambda pairs: [list(pair) for pair in pairs]), "label": st.sampled_from(CLASSES),
})  # fmt: skip


def check_annotation(path: Path, content: bytes) -> None:
    """An annotation: outlines, faults, and what they draw."""
    found, faults = annotation.read_with_faults(path, CLASSES)
    annotation.read_labels(path)
    listed = json.loads(content)["annotations"]
    assert [label for label, _ in found] == [CLASSES.index(entry["label"]) for entry in listed if _is_good(entry)]
    for (_, outline), entry in zip(found, filter(_is_good, listed), strict=True):
        assert outline.dtype == np.int32
        assert np.array_equal(outline, np.rint(np.array(entry["points"], np.float64))), "other points"
    planes = polygon.rasterise(found, (SIDE, SIDE), len(CLASSES))
    assert planes.shape == (SIDE, SIDE, plane_count(len(CLASSES)))
    assert bool(faults) == (len(found) < len(listed)), "another verdict"
    if faults:
        annotation.read_annotation(path, CLASSES)
        raise AssertionError("faults, and taken")


def _is_good(entry: Any) -> bool:
    """The rules of an entry, one after the other."""
    if not isinstance(entry, dict) or not isinstance(entry.get("label"), str) or entry["label"] not in CLASSES:
        return False
    kind, pairs = entry.get("type"), entry.get("points")
    if kind is not None and str(kind).lower().replace("_", "").replace("-", "") not in annotation.FILLED:
        return False
    if not isinstance(pairs, list) or not pairs or not all(isinstance(pair, list) and len(pair) == 2 for pair in pairs):
        return False
    numbers = [number for pair in pairs for number in pair]
    if not all(
        type(number) in (int, float) and -annotation.FARTHEST < number < annotation.FARTHEST for number in numbers
    ):
        return False
    if all(0 <= number <= 1 for number in numbers) and any(number % 1 for number in numbers):
        return False  # fractions of the image
    if len(pairs) == 2 and max(abs(pairs[0][axis] - pairs[1][axis]) for axis in (0, 1)) > 1:
        return False  # a line, or a box
    return sum(math.dist(a, b) for a, b in pairwise(pairs)) <= DEFAULTS.length


def annotation_target(_: Path) -> list[Target]:
    """Annotations."""
    documents = st.lists(entries, max_size=3).map(
        lambda listed: {"annotations": listed, "attributes": {}, "metadata": {"height": SIDE, "width": SIDE}}
    )
    about = "the rules, entry by entry"
    return [Target("annotations", documents, as_json, mutate.tree, check_annotation, "a.json", about)]


SCORES = {
    "oof_dice": 0.9, "oof_dice_at_half": 0.8, "folds": [0.7, 0.9], "folds_chosen": [0.8, 1.0], "public": 0.5,
    "oof_dice_per_class": {"Ulna": 0.9}, "test_dice": 0.4, "test_dice_per_class": {"Ulna": 0.4},
    "leaderboard": {"public": 0.9, "date": "2026-11-27"}, "strata": {"wrist": {"dice": None, "images": 3}},
}  # fmt: skip
THRESHOLDS = {
    "thresholds": dict.fromkeys(CLASSES, 0.5), "by_stratum": {"rotated": {"thresholds": dict.fromkeys(CLASSES, 0.4)}},
    "postprocess": {name: ["fill_holes"] for name in CLASSES}, "crf": [CLASSES[0]],
}  # fmt: skip
SETTINGS = {"data": {"_target_": "bonepipe.data.spec.DataSpec", "name": "hand", "size": 64}, "seed": 21}
ENTRY = {
    "inputs": {"settings": SETTINGS, "folds": {"a.png": 0, "b.png": 1}, "files": {"a.png": "0123"}},
    "outputs": {"weights.safetensors": "0123", "metrics.csv": None}, "versions": {"torch": "2.13.0"},
}  # fmt: skip
FINGERPRINT = {"training": ENTRY, "out of fold": ENTRY}
CASCADE = {"first": "runs/a", "second": "runs/b", "classes": {"Ulna": {"weight": 0.5}}, "box": {}}
COSTS = {"device": "cpu", "peak_memory": None, "seconds_an_image": 0.25}
IDENTITY = {"id": "fold-0-0123abcd", "path": "runs/x/fold-0/wandb.json", "made_from": "0123"}
RULE = {"kind": "group", "count": 5, "seed": None}


def check_scores(path: Path, content: bytes) -> None:
    """Scores, as the leaderboard, comparisons and the dashboard read them."""
    tracked.flat(run_folder.scores_of(path.parent))
    entry = leaderboard.read_entry(path.parent)
    assert all(map(math.isfinite, [*entry.cv.values(), *entry.board.values()]))
    comparison.read_totals(path)


def check_thresholds(path: Path, content: bytes) -> None:
    """What was chosen out of fold."""
    chosen = decisions.read(path.parent, CLASSES)
    assert all(0 <= limit <= 1 for limits in (chosen.thresholds, *chosen.by_stratum.values()) for limit in limits)
    assert len(chosen.thresholds) == len(chosen.operations) == len(CLASSES)
    assert all(isinstance(name, str) for names in chosen.operations for name in names)
    assert set(chosen.crf) <= set(CLASSES)
    json.dumps(chosen.plain())


def check_fingerprint(path: Path, content: bytes) -> None:
    """What results were made from, compared with what there is now."""
    folder = path.parent
    for name in run_folder.read_fingerprint(folder):
        step = run_folder.Step(folder, name, copy.deepcopy(ENTRY["inputs"]), ("metrics.csv",), folder / "digests.json")
        run_folder.shortened(step.changes())
        step.damage()
    run_folder.read_training(folder)
    run_folder.mixed_versions([folder])
    if run_folder.read_fingerprint(folder).get("training"):
        assert all(isinstance(fold, int) for fold in run_folder.recorded_folds(folder).values())


def check_cascade(path: Path, content: bytes) -> None:
    """A cascade's stages and weights."""
    noted = run_folder.read_cascade(path.parent)
    assert all(0 <= row["weight"] <= 1 for row in noted["classes"].values())
    comparison._makeup(path.parent)


def forgiving(read: Callable[[Path], object]) -> Callable[[Path, bytes], None]:
    """A check of a file that nothing depends on: nothing of it may stop anything."""

    def check(path: Path, content: bytes) -> None:
        try:
            read(path)
        except BonepipeError as error:
            raise AssertionError(f"stopped by {error}") from error

    return check


def run_json_target(_: Path) -> list[Target]:
    """The JSON files of a run's folder."""

    def target(file: str, content: Tree, check: Callable[[Path, bytes], object], compared: str = "") -> Target:
        return Target(file, st.just(content), as_json, mutate.tree, check, file, compared)

    return [
        target("scores.json", SCORES, check_scores, "finite numbers"),
        target("thresholds.json", THRESHOLDS, check_thresholds, "its range"),
        target("fingerprint.json", FINGERPRINT, check_fingerprint),
        target("cascade.json", CASCADE, check_cascade, "its range"),
        target("folds.json", RULE, lambda path, content: read_rule(path.with_suffix(".csv"))),
        target("costs.json", COSTS, forgiving(lambda path: fold_costs.of_fold(path.parent)), "never stops"),
        target("batch_size.json", {"batch_size": 4, "settings": "x"}, forgiving(_size), "never stops"),
        target("wandb.json", IDENTITY, forgiving(_identify), "never stops"),
    ]


def _size(path: Path) -> None:
    size = batch_size._known(path, "x")
    assert size is None or size >= 1


def _identify(path: Path) -> None:
    identity, _ = identify(path.parent / "wandb", "fold-0", Source(path, "0123"), offline=True)
    assert identity.isascii()
    assert "/" not in identity
