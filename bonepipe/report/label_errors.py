"""Label errors as pictures: the place in the image, and the annotation beside the prediction."""

from collections.abc import Sequence

import cv2
import numpy as np

from bonepipe.labels.cutout import Box, Cutout, to_mask
from bonepipe.labels.polygon import Points
from bonepipe.report import overlay
from bonepipe.report.overlay import Colour

CONTEXT: Colour = (150, 150, 150)  # of the outlines of classes that are not in doubt
FRAME: Colour = (255, 200, 0)
OUTLINE: Colour = (255, 255, 255)  # as the annotator drew it
MARGIN = 0.8  # about the box of the classes in doubt, share of its longer side
MANY, MIDDLE = 8, 0.6  # masks from which only this share of them, about their middle, is shown enlarged


def picture(
    title: str,
    grey: np.ndarray,
    annotated: Sequence[Cutout],
    predicted: Sequence[Cutout],
    outlines: Sequence[Sequence[Points]],
    doubtful: Sequence[int],
    names: Sequence[str],
    colours: Sequence[Colour],
    height: int = 420,
) -> np.ndarray:
    """One candidate: annotated image with a frame | the place | annotation | prediction, RGB uint8 under a title.

    Args:
        title: of the picture.
        grey: the image, uint8 `[H, W]`.
        annotated, predicted: masks, one a class.
        outlines: the annotation's, a class; shown as they were drawn, because a mask does not tell of an inner one.
        doubtful: the classes in doubt; they are filled and named, the others only outlined.
        names, colours: one a class.
        height: of the panels, pixels.
    """
    place = region([masks[label] for masks in (annotated, predicted) for label in doubtful], grey.shape)
    crop = _scaled(cv2.cvtColor(grey[place.slices], cv2.COLOR_GRAY2RGB), height)
    whole = overlay.draw(grey, [annotated[label] for label in doubtful], [colours[label] for label in doubtful])
    drawn = _drawn(grey, annotated, place, doubtful, names, colours, height)
    _trace(drawn, [points for label in doubtful for points in outlines[label]], place)
    shown = _drawn(grey, predicted, place, doubtful, names, colours, height)
    panels = [("image, annotation in doubt", _framed(whole, place, height)), ("place", crop)]
    panels += [("annotation", drawn), ("prediction, out of fold", shown)]
    strip = overlay.titled(panels, height)
    return np.vstack([_heading(title, strip.shape[1]), strip])


def region(masks: Sequence[Cutout], shape: tuple[int, int]) -> Box:
    """A square about the masks with a margin, moved inside the image where it can be; the image without any mask.

    Of many masks only those in the middle count: a permutation of bones all over the hand is best seen at the wrist.
    """
    boxes = np.array([mask.box for mask in masks if mask.mask.any()])
    if not len(boxes):
        return Box(0, 0, *shape)
    if len(boxes) > MANY:
        centres = (boxes[:, :2] + boxes[:, 2:]) / 2
        distance = np.linalg.norm(centres - np.median(centres, axis=0), axis=1)
        boxes = boxes[distance <= np.quantile(distance, MIDDLE)]
    (top, left), (bottom, right) = boxes.min(axis=0)[:2].tolist(), boxes.max(axis=0)[2:].tolist()
    side = min(round(max(bottom - top, right - left) * (1 + MARGIN)), *shape)
    top = int(np.clip((top + bottom - side) // 2, 0, shape[0] - side))
    left = int(np.clip((left + right - side) // 2, 0, shape[1] - side))
    return Box(top, left, top + side, left + side)


def _framed(picture: np.ndarray, place: Box, height: int) -> np.ndarray:
    scale = height / picture.shape[0]
    small = _scaled(picture, height)
    top, left, bottom, right = (round(edge * scale) for edge in place)
    return cv2.rectangle(small, (left, top), (right - 1, bottom - 1), FRAME, 2)


def _drawn(
    grey: np.ndarray,
    masks: Sequence[Cutout],
    place: Box,
    doubtful: Sequence[int],
    names: Sequence[str],
    colours: Sequence[Colour],
    height: int,
) -> np.ndarray:
    """The place with its masks, enlarged first so that outlines and names are sharp."""
    crop = _scaled(grey[place.slices], height)
    large = [_enlarged(mask, grey.shape, place, crop.shape) for mask in masks]
    others = [mask for label, mask in enumerate(large) if label not in doubtful]
    canvas = overlay.draw(crop, others, [CONTEXT] * len(others), opacity=0)
    canvas = overlay.draw(canvas, [large[label] for label in doubtful], [colours[label] for label in doubtful])
    for label in doubtful:
        if large[label].mask.any():
            _name(canvas, names[label], large[label])
    return canvas


def _enlarged(mask: Cutout, shape: tuple[int, int], place: Box, size: tuple[int, int]) -> Cutout:
    whole = to_mask(mask, shape)[place.slices].astype(np.uint8)
    return Cutout(Box(0, 0, *size), cv2.resize(whole, size[::-1], interpolation=cv2.INTER_NEAREST).view(np.bool_))


def _trace(canvas: np.ndarray, outlines: Sequence[Points], place: Box) -> None:
    """Draw outlines (x, y at the image's size) over the enlarged place."""
    scale = canvas.shape[0] / place.height
    corner = np.array([place.left, place.top])
    lines = [np.rint((np.asarray(points) - corner + 0.5) * scale).astype(np.int32) for points in outlines]
    cv2.polylines(canvas, lines, True, OUTLINE, 1, cv2.LINE_AA)


def _name(canvas: np.ndarray, text: str, mask: Cutout) -> None:
    """Write a class's name over the middle of its mask."""
    rows, columns = np.nonzero(mask.mask)
    (width, tall), below = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, 0.4, 1)
    x = int(np.clip(columns.mean() - width / 2, 2, max(2, canvas.shape[1] - width - 2)))
    y = int(np.clip(rows.mean() + tall / 2, tall + 2, canvas.shape[0] - below))
    plate = canvas[y - tall - 2 : y + below, x - 2 : x + width + 2]
    plate[:] = plate // 2  # dark behind bright
    cv2.putText(canvas, text, (x, y), cv2.FONT_HERSHEY_SIMPLEX, 0.4, (255, 255, 255), 1, cv2.LINE_AA)


def _scaled(picture: np.ndarray, height: int) -> np.ndarray:
    width = round(picture.shape[1] * height / picture.shape[0])
    shrinks = height <= picture.shape[0]
    return cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)


def _heading(title: str, width: int) -> np.ndarray:
    strip = np.full((36, width, 3), 48, np.uint8)
    scale = min(0.6, 0.6 * (width - 20) / max(1, cv2.getTextSize(title, cv2.FONT_HERSHEY_SIMPLEX, 0.6, 1)[0][0]))
    return cv2.putText(strip, title, (10, 24), cv2.FONT_HERSHEY_SIMPLEX, scale, (255, 220, 120), 1, cv2.LINE_AA)
