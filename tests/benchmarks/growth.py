"""How time and memory grow with the number of images."""

import json
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

from bonepipe.parallel import cores

from .material import Material, replicate
from .measure import MB, run_child
from .steps_labels import choose_thresholds, make_histograms
from .table import Row, duration


def build_store(folder: str, size: str, images: str) -> float:
    """Build the store of `images` images at 512 in a new cache; returns the seconds."""
    from bonepipe import config as configs
    from bonepipe.data.catalog import train_images
    from bonepipe.data.store import open_store

    material = Material(Path(folder), int(size))
    root, cache = replicate(material, "train", int(images)), Path(folder) / f"growth-{images}"
    shutil.rmtree(cache, ignore_errors=True)
    spec = configs.build(configs.compose(["experiment=demo", f"data.root={root}", "data.size=512"]), "data")
    rows = train_images(spec)
    start = time.perf_counter()
    open_store(rows, spec, cache)
    elapsed = time.perf_counter() - start
    shutil.rmtree(cache)
    return elapsed


def find_thresholds(folder: str, classes: str) -> float:
    """Thresholds from the folds' files; returns the seconds."""
    start = time.perf_counter()
    choose_thresholds(Path(folder), tuple(json.loads(classes)))
    return time.perf_counter() - start


def store(material: Material, counts: Sequence[int]) -> list[Row]:
    """The store, built on all cores."""
    for count in counts:
        replicate(material, "train", count)
    words = ("tests.benchmarks.growth:build_store", material.folder, material.size)
    children = [run_child(*words, count) for count in counts]
    return _rows(f"store at 512 of {{}} images, {cores()} threads", counts, children)


def thresholds(material: Material, counts: Sequence[int]) -> list[Row]:
    """Thresholds from histograms."""
    classes = json.dumps(material.spec(512).classes)
    folders = [make_histograms(material, count) for count in counts]
    children = [run_child("tests.benchmarks.growth:find_thresholds", folder, classes) for folder in folders]
    return _rows("thresholds of {} images", counts, children)


def _rows(step: str, counts: Sequence[int], children: Sequence) -> list[Row]:
    first = children[0]
    return [
        Row(
            step.format(count),
            ours=f"{duration(child.result)}, peak {child.peak / MB:,.0f} MB",
            ratio=f"{child.peak / first.peak:.2f}x memory, {child.result / first.result:.2f}x time",
            checked="memory-mapped pages of the store included" if "store" in step else "",
        )
        for count, child in zip(counts, children, strict=True)
    ]
