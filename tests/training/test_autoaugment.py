import json
import logging
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
import yaml

from bonepipe import config as configs
from bonepipe.data.augment import Augmentation
from bonepipe.data.spec import DataSpec
from bonepipe.data.store import Store
from bonepipe.errors import BonepipeError
from bonepipe.labels import bitplane
from bonepipe.training import autoaugment
from bonepipe.training.autoaugment import OPERATIONS, PolicySearch

CLASSES = ("Radius", "Ulna", "Lunate")
DATA = DataSpec(name="tiny", root="x", classes=CLASSES, size=64)
SMALL = PolicySearch(trials=6, subpolicies=2, operations=2, top=2)


@pytest.fixture
def store(tmp_path):
    """Three images whose grey value names the class: 0 background, 80 Radius, 160 Ulna, 240 Lunate."""
    rng = np.random.default_rng(0)
    images = np.zeros((3, 64, 64), np.uint8)
    for image in images:
        for number in (1, 2, 3):
            top, left = rng.integers(4, 40, 2)
            image[top : top + 16, left : left + 16] = 80 * number
    masks = images[..., None] == 80 * np.arange(1, 4)
    return Store(
        folder=tmp_path, names=tuple("abc"), images=images, planes=bitplane.pack(masks), class_count=3,
        shapes=np.array([[64, 64]] * 3), points=np.empty((0, 2), np.int32), starts=np.zeros(1, np.int64),
        classes=np.empty(0, np.int64), owners=np.empty(0, np.int64),
    )  # fmt: skip


def by_grey_value(images):
    """A model that tells classes by exact grey value, so that only changes of brightness confuse it."""
    return torch.stack([(images == 80 * number).float() for number in (1, 2, 3)], 1)


@pytest.mark.parametrize("name", OPERATIONS)
def test_each_operation_is_a_transform_at_every_magnitude_and_grows_with_it(name):
    coarse = np.random.default_rng(0).integers(0, 200, (40, 40)).astype(np.uint8)
    image = cv2.resize(coarse, (256, 256), interpolation=cv2.INTER_LINEAR)
    planes = bitplane.pack((image[..., None] // 50) == np.arange(3))
    change = []
    for magnitude in (0.0, 0.5, 1.0):
        augment = Augmentation(DATA, transforms=[{**OPERATIONS[name](magnitude), "p": 1.0}])
        results = [augment(image, planes, seed)[0].astype(int) for seed in range(8)]
        change.append(np.mean([np.abs(result - image).mean() for result in results]))
    assert change[2] > change[0]
    assert change[2] > 0.5


def test_the_score_equals_dice_counted_by_hand(store):
    """Identity: perfect. A model blind to one class: that class scores 0 where it is seen, others 1."""
    identity = Augmentation(DATA)
    assert autoaugment.score(by_grey_value, store, [0, 1, 2], identity, seed=0) == pytest.approx(1, abs=1e-6)

    def blind(images):
        return by_grey_value(images) * torch.tensor([1.0, 0.0, 1.0]).view(1, 3, 1, 1)

    shown = (store.images[..., None] == 80 * np.arange(1, 4)).any((1, 2))
    expected = np.mean([(row.sum() - row[1]) / row.sum() for row in shown])
    assert autoaugment.score(blind, store, [0, 1, 2], identity, seed=0, batch_size=2) == pytest.approx(
        expected, abs=1e-5
    )


def test_the_score_sees_what_confuses_the_model_and_not_what_does_not(store):
    flip = Augmentation(DATA, transforms=[{"name": "HorizontalFlip", "p": 0.5}])
    darker = Augmentation(DATA, transforms=[{"name": "RandomGamma", "gamma_limit": [60, 80], "p": 0.5}])
    scores = [
        autoaugment.score(by_grey_value, store, [0, 1, 2], one, seed=3, repeats=4) for one in (flip, darker, darker)
    ]
    assert scores[0] == pytest.approx(1, abs=1e-6)
    assert 0.2 < scores[1] < 0.9
    assert scores[1] == scores[2]
    assert autoaugment.score(by_grey_value, store, [0, 1, 2], darker, seed=4, repeats=4) != scores[1]


def test_bones_pushed_out_of_the_picture_do_not_raise_the_score(store):
    away = Augmentation(DATA, transforms=[{"name": "Affine", "translate_px": [60, 60], "p": 1.0}])

    def nothing(images):
        return torch.zeros(len(images), 3, 64, 64)

    assert autoaugment.score(nothing, store, [0, 1, 2], away, seed=0) == 0  # though no bone is left to be missed
    partly = np.array(store.planes)
    partly[0] = 0  # one image shows nothing: it does not count
    kept = replace(store, planes=partly)
    identity = Augmentation(DATA)
    alone, both = (autoaugment.score(nothing, kept, chosen, identity, seed=0) for chosen in ([1, 2], [0, 1, 2]))
    assert alone == both < 1e-3


def evaluate_by_share(nodes):
    """Likes rotation: the share of operations that are rotations, and mild ones more."""
    text = json.dumps(nodes)
    return text.count("rotate") - 1e-4 * len(text)


def search(path, settings=SMALL, seed=1, **facts):
    return autoaugment.run_search(evaluate_by_share, settings, seed, path, facts)


def test_the_same_seed_finds_the_same_policy_and_another_seed_another(tmp_path):
    first, again, other = (search(tmp_path / name, seed=seed) for name, seed in (("a", 1), ("b", 1), ("c", 2)))
    assert first == again != other
    assert [value for value, _ in first] == sorted((value for value, _ in first), reverse=True)
    assert all(value == pytest.approx(evaluate_by_share(autoaugment.one_of(nodes))) for value, nodes in first)


def test_an_interrupted_search_finds_what_a_quiet_one_finds(tmp_path):
    quiet = search(tmp_path / "quiet", PolicySearch(trials=14, subpolicies=1, operations=1, top=2))
    calls = []

    def interrupted(nodes):
        calls.append(nodes)
        if len(calls) == 12:
            raise KeyboardInterrupt
        return evaluate_by_share(nodes)

    settings = PolicySearch(trials=14, subpolicies=1, operations=1, top=2)
    said, handler = [], logging.Handler()
    handler.emit = said.append
    logging.getLogger("optuna").addHandler(handler)
    with pytest.raises(KeyboardInterrupt):
        autoaugment.run_search(interrupted, settings, 1, tmp_path / "cut", {})
    logging.getLogger("optuna").removeHandler(handler)
    assert not said  # a stopped trial is no failure: the command says how to go on
    autoaugment._open_study(tmp_path / "cut").ask()  # as kill -9 leaves it: a trial that is still running
    assert search(tmp_path / "cut", settings) == quiet
    assert len(calls) == 12
    assert search(tmp_path / "cut", PolicySearch(trials=8, subpolicies=1, operations=1, top=2)) == search(
        tmp_path / "short", PolicySearch(trials=8, subpolicies=1, operations=1, top=2)
    )


@pytest.mark.parametrize("lost", [1, 9, 200])
def test_a_journal_that_a_kill_cut_short_is_gone_on_with(tmp_path, lost):
    """Optuna would add the next line to the torn one, after which no line of the journal can be read."""
    quiet = search(tmp_path / "quiet")
    search(tmp_path / "cut", replace(SMALL, trials=4))
    content = (tmp_path / "cut").read_bytes()
    (tmp_path / "cut").write_bytes(content[:-lost])
    (tmp_path / "cut.lock").symlink_to(tmp_path / "cut")  # as optuna's own lock, which nobody would take away
    assert search(tmp_path / "cut") == quiet
    assert search(tmp_path / "cut") == quiet


def test_the_search_learns(tmp_path):
    """After ten random beginnings TPE proposes more of what scored well: here, low probabilities."""
    values = []

    def evaluate(nodes):
        values.append(-sum(node["p"] for node in nodes[0]["transforms"][0]["transforms"]))
        return values[-1]

    ranked = autoaugment.run_search(evaluate, PolicySearch(trials=40, subpolicies=1, top=5), 1, tmp_path / "long", {})
    assert len(values) == 40
    assert ranked[0][0] == max(values)
    assert np.mean(values[-15:]) > np.mean(values[:10]) + 0.2


def test_trials_of_another_model_or_form_are_refused(tmp_path):
    search(tmp_path / "journal", weights="one")
    with pytest.raises(BonepipeError, match=r"journal: .*weights: 'one' -> 'two'.*put them back, or delete the file"):
        search(tmp_path / "journal", weights="two")
    with pytest.raises(BonepipeError, match="operations: 2 -> 1"):
        search(tmp_path / "journal", PolicySearch(trials=6, subpolicies=2, operations=1, top=2), weights="one")
    (tmp_path / "journal").write_bytes(b"nonsense\n")
    with pytest.raises(BonepipeError, match=r"journal: cannot be read .*delete it"):
        search(tmp_path / "journal", weights="one")


def test_the_best_candidates_are_merged_without_repetition(tmp_path):
    ranked = search(tmp_path / "journal")
    flip, choice = autoaugment.merge([ranked[0], ranked[0], ranked[1], ranked[2]], 3)
    assert flip == {"name": "HorizontalFlip", "p": 0.5}
    assert choice["transforms"] == [*ranked[0][1], *ranked[1][1]]


def test_a_written_policy_is_a_recipe_for_training(tmp_path):
    nodes = autoaugment.merge(search(tmp_path / "journal"), 2)
    path = tmp_path / "policy.yaml"
    autoaugment.write(path, nodes, ["how it was found"])
    assert path.read_text().startswith("# how it was found\n")
    assert yaml.safe_load(path.read_text())["transforms"] == nodes
    image = np.random.default_rng(0).integers(0, 255, (64, 64)).astype(np.uint8)
    planes = bitplane.pack(image[..., None] > np.array([50, 100, 150]))
    from_file, from_nodes = Augmentation(DATA, file=str(path)), Augmentation(DATA, transforms=nodes)
    config = configs.compose(["augment=searched", f"augment.file={path}", "data.size=64"])
    composed = configs.build(config, "augment", DATA)
    for seed in range(4):
        expected = from_nodes(image, planes, seed)
        for augment in (from_file, composed):
            np.testing.assert_array_equal(augment(image, planes, seed)[0], expected[0])
            np.testing.assert_array_equal(augment(image, planes, seed)[1], expected[1])


def test_images_to_score_on_are_spread_evenly():
    assert PolicySearch(images=3).chosen(list(range(10, 21))) == [10, 15, 20]
    assert PolicySearch(images=99).chosen([4, 5]) == PolicySearch().chosen([4, 5]) == [4, 5]


@pytest.mark.parametrize(
    ("values", "reason"),
    [({"trials": 0}, r"search\.trials=0: at least 1"), ({"top": 9, "trials": 3}, r"search\.top=9: more than .*=3")],
)
def test_a_search_of_nothing_is_refused(values, reason):
    with pytest.raises(ValueError, match=reason):
        PolicySearch(**values)
