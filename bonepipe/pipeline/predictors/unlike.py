"""Images that look unlike those that a model was trained on: told once they are predicted, with the way out."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bonepipe.data.catalog import Radiograph
from bonepipe.data.thumbnails import Usual
from bonepipe.errors import BonepipeError
from bonepipe.pipeline.experiment import say
from bonepipe.training.weights_file import read_facts

if TYPE_CHECKING:
    from bonepipe.inference.predict import Whole

FACT = "usual"  # name of the training images' `Usual` among the facts of a weights file


def warned(predicted: "Iterator[tuple[Radiograph, Whole]]", weights: Path) -> "Iterator[tuple[Radiograph, Whole]]":
    """Pass predictions on; after the last, name the images that look unlike the training images of these weights.

    Weights that do not tell how those look (of an earlier version) warn of nothing. Raises BonepipeError where what
    they tell is damaged.
    """
    usual = _usual(weights)
    if usual is None:
        yield from predicted
        return
    negative, misexposed = [], []
    for image, whole in predicted:
        if usual.negatives(whole.thumbnail[None])[0]:
            negative.append(image.name)
        elif usual.misexposed(whole.thumbnail[None])[0]:
            misexposed.append(image.name)
        yield image, whole
    if negative:
        say(
            f"warning: {_listed(negative)}: look like negatives of the training images, so their masks are not to be "
            "trusted; turn them back with `predict --negative`, or with data.negatives=[...] in a dataset"
        )
    if misexposed:
        say(
            f"warning: {_listed(misexposed)}: far darker or brighter than the training images, half of which have mean "
            f"greys of {usual.range}; look at their masks"
        )


def _usual(weights: Path) -> Usual | None:
    plain = read_facts(weights).get(FACT)
    try:
        return None if plain is None else Usual.from_plain(plain)
    except (KeyError, TypeError, ValueError) as error:
        raise BonepipeError(f"{weights}: its facts on the training images are damaged; train the fold again") from error


def _listed(names: Sequence[str], most: int = 5) -> str:
    """How many images, and the first of them."""
    return f"{len(names)} images ({', '.join([*names[:most], *['...'][: len(names) > most]])})"
