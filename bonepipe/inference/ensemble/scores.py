"""What a mixture of members would have scored on the images that none of them was trained on."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from bonepipe.data.store import Store
from bonepipe.errors import BonepipeError
from bonepipe.inference.ensemble.members import Mean, OofStore, common_shape, mix
from bonepipe.inference.oof.results import HALF, Compared, compare
from bonepipe.labels import upsample
from bonepipe.parallel import cores


class Scored(NamedTuple):
    """An image's mixture compared with the truth, and the Dice `[M, C]` at threshold 0.5 of each member alone."""

    mixture: Compared
    alone: NDArray[np.float64]


def common_names(archives: Sequence[OofStore]) -> list[str]:
    """The images that every member predicted out of fold, in the first one's order.

    Raises:
        BonepipeError: there is none.
    """
    names = [name for name in archives[0].places if all(name in archive.places for archive in archives)]
    if not names:
        raise BonepipeError("the members share no image that all of them predicted out of fold; add folds to them")
    return names


def score(
    archives: Sequence[OofStore], weights: NDArray[np.float64], mean: Mean, store: Store, names: Sequence[str]
) -> list[Scored]:
    """Mix every image's maps at the common resolution and compare with the truth at the image's size.

    Args:
        archives: of each member.
        weights: `[M, C]`, those of a class add to 1.
        mean: arithmetic or geometric.
        store: with the truth of the images.
        names: of the images.

    Raises:
        BonepipeError: an image is not in the store.
    """
    shape = common_shape([archive.shape for archive in archives])
    strange = next((name for name in names if name not in store.index), None)
    if strange:
        raise BonepipeError(f"{strange}: was predicted out of fold, but the dataset has no such training image")

    def one(name: str) -> Scored:
        index = store.index[name]
        size, truth, maps = store.shape(index), store.truth(index), [archive.maps(name) for archive in archives]
        masks = [upsample.cutouts(own, [HALF] * len(truth), size) for own in maps]
        alone = np.stack([upsample.dice_scores(own, truth) for own in masks])
        return Scored(compare(mix(maps, weights, shape, mean), store, index), alone)

    workers = min(cores(), 4)  # NumPy releases the interpreter; each holds the maps of all members
    with ThreadPoolExecutor(workers) as pool:
        return list(tqdm(pool.map(one, names), "mixture out of fold", len(names), unit="image"))
