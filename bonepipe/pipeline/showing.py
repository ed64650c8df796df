"""Worst, median and best radiographs on the dashboard, their true and predicted masks in layers to switch on."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bonepipe.data.image import resize_grey
from bonepipe.labels.cutout import Box, Cutout, hull
from bonepipe.pipeline.experiment import Experiment
from bonepipe.report.examples import read_masks
from bonepipe.report.layers import Groups, grouped, label_maps, overlaps, titles

SURVEYED = 200  # images, evenly spread, that tell which classes overlap
LARGEST = 1024  # pixels of a close-up's longer side
MARGIN = 0.1  # around a close-up, as a share of its sides


class Part(NamedTuple):
    """A part of a radiograph, as it is shown."""

    name: str
    box: Box
    grey: np.ndarray


def show(run: Any, experiment: Experiment, shown: Mapping[str, int], tables: Callable[[str], Path]) -> None:
    """Show radiographs with their masks, without a word of whose they are.

    Args:
        run: that is told, if it shows pictures.
        shown: title -> index in the store.
        tables: from an image's name to the oof.csv that holds its masks.
    """
    if not run.shows_pictures:
        return
    store, classes = experiment.cohort.store, experiment.data.classes
    groups = class_groups(experiment)
    for title, index in shown.items():
        name, shape = store.names[index], store.shape(index)
        masks = {"truth": store.truth(index), "prediction": read_masks(tables(name), {name: shape})[name]}
        for part in parts(experiment, index, masks["truth"]):
            run.overlay(f"examples/{title}{part.name}", part.grey, layers(masks, groups, part), classes)


def class_groups(experiment: Experiment) -> Groups:
    """The classes in groups that hardly overlap, the same for all runs of an experiment: all its images count."""
    planes = experiment.cohort.store.planes
    step = -(-len(planes) // SURVEYED)
    return grouped(overlaps(map(np.asarray, planes[::step]), len(experiment.data.classes)))


def layers(masks: Mapping[str, list[Cutout]], groups: Groups, part: Part) -> dict[str, np.ndarray]:
    """Label maps of the size of the part, by titles."""
    height, width = part.grey.shape
    named: dict[str, np.ndarray] = {}
    for word, cutouts in masks.items():
        named |= titles(word, groups, label_maps(cutouts, groups, part.box, (height, width)))
    return named


def parts(experiment: Experiment, index: int, truth: list[Cutout]) -> Iterator[Part]:
    """The whole image at training size, and the close-up of the classes that data.closeup names from the original."""
    store, data = experiment.cohort.store, experiment.data
    height, width = store.shape(index)
    yield Part("", Box(0, 0, height, width), np.array(store.frame.content(store.images[index], (height, width))))
    box = hull(truth[data.classes.index(label)].box for label in data.closeup if label in data.classes)
    if data.region is not None or not box.height:
        return
    down, across = round(box.height * MARGIN), round(box.width * MARGIN)
    box = Box(
        max(box.top - down, 0),
        max(box.left - across, 0),
        min(box.bottom + down, height),
        min(box.right + across, width),
    )
    yield Part(" close-up", box, bounded(experiment.cohort.images[index].read()[box.slices]))


def bounded(grey: np.ndarray) -> np.ndarray:
    """A picture uint8 `[h, w]`, its longer side no more than LARGEST."""
    scale = LARGEST / max(grey.shape)
    height, width = (max(1, round(side * scale)) for side in grey.shape)
    return grey if scale >= 1 else resize_grey(grey, (height, width))
