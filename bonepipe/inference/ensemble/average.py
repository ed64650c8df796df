"""The average of an ensemble's members, out of fold and on test images alike.

Only the box where a class can be is touched: elsewhere all members have less than a level of a byte (1/256), and no
threshold is as low.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit

from bonepipe.inference.ensemble.members import Mean
from bonepipe.inference.oof.byte_maps import LEVELS
from bonepipe.labels import upsample
from bonepipe.labels.cutout import hull

Shape = tuple[int, int]
EDGE = 0.5 / LEVELS  # geometric means take probabilities nearer to 0 or 1 for this: bytes know no more, and no veto


def common_shape(shapes: Sequence[Shape]) -> Shape:
    """The resolution at which members meet: the largest height and the largest width."""
    return max(height for height, _ in shapes), max(width for _, width in shapes)


def average(
    maps: Sequence[NDArray[np.float32]], weights: NDArray[np.float64], mean: Mean = "arithmetic"
) -> NDArray[np.float32]:
    """Average members' maps of one image.

    Each map is brought to the common resolution bilinearly, pixel centres aligned. A single one comes back as it is.

    Args:
        maps: of each member, probabilities float32 `[C, h, w]`, of any sizes.
        weights: `[M, C]`, those of a class add to 1.
        mean: of the probabilities, or of their logits (clipped at EDGE): the logarithmic opinion pool.

    Returns:
        float32 `[C, h, w]`; 0 outside the box that holds every pixel where a member has at least a level (1/256).
    """
    if len(maps) == 1:
        return maps[0]
    shape = common_shape([(map_.shape[1], map_.shape[2]) for map_ in maps])
    result = np.zeros((weights.shape[1], *shape), np.float32)
    for label, plane in enumerate(result):
        heard = [(map_[label], share[label]) for map_, share in zip(maps, weights, strict=True) if share[label]]
        box = hull(near for map_, _ in heard if (near := upsample.reach(map_, 1 / LEVELS, shape)))
        if box.height:
            plane[box.slices] = _pool([(upsample.upsample(map_, shape, box), share) for map_, share in heard], mean)
    return result


def _pool(maps: Sequence[tuple[NDArray[np.float32], float]], mean: Mean) -> NDArray[np.float32]:
    """The mean of equally large maps with their weights, float32."""
    if mean == "geometric":
        total = sum(share * logit(np.clip(map_, EDGE, 1 - EDGE)) for map_, share in maps)
        return expit(total).astype(np.float32)
    return np.asarray(sum(np.float32(share) * map_ for map_, share in maps), np.float32)
