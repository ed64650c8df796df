"""Radiographs with their masks in layers, as the dashboard is shown them."""

import numpy as np

from bonepipe.config import compose
from bonepipe.labels.cutout import to_mask
from bonepipe.pipeline.experiment import Experiment
from bonepipe.pipeline.showing import LARGEST, bounded, class_groups, layers, parts, show

CARPALS = ["Trapezium", "Trapezoid", "Capitate", "Hamate", "Scaphoid", "Lunate", "Triquetrum", "Pisiform"]


class Told:
    """A run that remembers."""

    shows_pictures = True

    def __init__(self):
        self.told = {}

    def overlay(self, name, image, maps, classes):
        self.told[name] = image, maps


def test_pisiform_and_triquetrum_are_in_layers_of_their_own(drawn_run):
    _, words = drawn_run
    experiment = Experiment(compose(words))
    groups, classes = class_groups(experiment), experiment.data.classes
    assert sorted(label for group in groups for label in group) == list(range(29))
    assert 2 <= len(groups) <= 5
    group_of = {classes[label]: number for number, group in enumerate(groups) for label in group}
    assert group_of["Pisiform"] != group_of["Triquetrum"]
    assert group_of["Trapezium"] != group_of["Trapezoid"]


def test_a_close_up_shows_all_of_the_carpus_from_the_original(drawn_run):
    _, words = drawn_run
    experiment = Experiment(compose(words))
    store, truth = experiment.cohort.store, experiment.cohort.store.truth(0)
    whole, near = parts(experiment, 0, truth)
    assert whole.grey.shape == (64, 64)  # as the model sees it
    original = experiment.cohort.images[0].read()
    np.testing.assert_array_equal(near.grey, original[near.box.slices])
    assert near.grey.size < original.size / 4
    maps = layers({"truth": truth}, class_groups(experiment), near)
    for name in CARPALS:
        label = experiment.data.classes.index(name)
        mask = to_mask(truth[label], store.shape(0))
        visible = np.any([layer == label + 1 for layer in maps.values()], 0)
        np.testing.assert_array_equal(visible, mask[near.box.slices])
        assert visible.sum() == mask.sum() > 0


def test_large_close_ups_are_made_smaller():
    assert bounded(np.zeros((3000, 1500), np.uint8)).shape == (LARGEST, LARGEST // 2)
    assert bounded(np.zeros((30, 15), np.uint8)).shape == (30, 15)


def test_without_classes_to_enlarge_or_where_the_run_sees_a_region_there_is_no_close_up(drawn_run):
    _, words = drawn_run
    experiment = Experiment(compose([*words, "data.closeup=[]"]))
    assert len(list(parts(experiment, 0, experiment.cohort.store.truth(0)))) == 1


def test_truth_and_prediction_are_shown_under_words_only(drawn_run):
    _, words = drawn_run
    experiment, run = Experiment(compose(words)), Told()
    index = experiment.cohort.indices(0)[1][0]
    show(run, experiment, {"worst": index}, lambda _: experiment.fold_folder(0) / "oof.csv")
    assert list(run.told) == ["examples/worst", "examples/worst close-up"]
    for image, maps in run.told.values():
        assert {"truth 1", "truth 2", "prediction 1"} <= set(maps)
        assert all(layer.shape == image.shape for layer in maps.values())


def test_who_is_not_shown_pictures_is_read_none(drawn_run):
    class Blind(Told):
        shows_pictures = False

    run = Blind()
    show(run, None, {"worst": 0}, None)
    assert run.told == {}
