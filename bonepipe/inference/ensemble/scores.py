"""What an ensemble of members would have scored on the images that none of them was trained on."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from bonepipe.data.store import Store
from bonepipe.errors import BonepipeError
from bonepipe.inference.ensemble.average import average
from bonepipe.inference.ensemble.members import Mean
from bonepipe.inference.oof.predict import compare_with_truth
from bonepipe.inference.oof.results import Compared
from bonepipe.inference.oof.store import OofStore
from bonepipe.labels import outline
from bonepipe.parallel import cores


class Scored(NamedTuple):
    """An image's average compared with the truth, and the Dice `[M, C]` at threshold 0.5 of each member alone."""

    average: Compared
    alone: NDArray[np.float64]


def common_names(stores: Sequence[OofStore]) -> list[str]:
    """The images that every member predicted out of fold, in the first one's order.

    Raises:
        BonepipeError: there is none.
    """
    names = [name for name in stores[0].folds if all(name in oof.folds for oof in stores)]
    if not names:
        raise BonepipeError("the members share no image that all of them predicted out of fold; add folds to them")
    return names


def score(
    stores: Sequence[OofStore], weights: NDArray[np.float64], mean: Mean, store: Store, names: Sequence[str]
) -> list[Scored]:
    """Average every image's maps at the common resolution and compare with the truth at the image's size.

    Args:
        stores: of each member.
        weights: `[M, C]`, those of a class add to 1.
        mean: arithmetic or geometric.
        store: with the truth of the images.

    Raises:
        BonepipeError: an image is not in the store.
    """
    strange = next((name for name in names if name not in store.index), None)
    if strange:
        raise BonepipeError(f"{strange}: was predicted out of fold, but the dataset has no such training image")

    def score_image(name: str) -> Scored:
        index = store.index[name]
        size, truth, maps = store.shape(index), store.truth(index), [oof.maps(name) for oof in stores]
        alone = np.stack([outline.dice_at_half(of_member, truth, size) for of_member in maps])
        return Scored(compare_with_truth(average(maps, weights, mean), store, index), alone)

    workers = min(cores(), 4)  # NumPy releases the interpreter; each holds the maps of all members
    with ThreadPoolExecutor(workers) as pool:
        return list(tqdm(pool.map(score_image, names), "average out of fold", len(names), unit="image"))
