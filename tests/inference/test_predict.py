import re
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from bonepipe.data.catalog import Radiograph
from bonepipe.data.frame import Frame
from bonepipe.data.image import resize_grey
from bonepipe.data.spec import DataSpec
from bonepipe.errors import BonepipeError
from bonepipe.inference.ensemble.average import average
from bonepipe.inference.fold_model import FoldModel, mean_probabilities
from bonepipe.inference.predict import PredictionSpec, encode, predictions
from bonepipe.inference.sliding_window import Windows
from bonepipe.inference.tta import Views
from bonepipe.labels import cutout, rle, upsample

SIZE = (16, 20)
SHAPES = [(40, 36), (31, 50), (16, 20), (64, 64), (40, 36)]
THRESHOLDS = [0.5, 0.25]


@pytest.fixture
def images(tmp_path):
    """Five files of different sizes with a bright patch each."""
    rng = np.random.default_rng(0)
    rows = []
    for number, shape in enumerate(SHAPES):
        grey = rng.integers(0, 40, shape).astype(np.uint8)
        grey[number : number + 9, 2 * number : 2 * number + 11] = 250
        path = tmp_path / f"image{number}.png"
        cv2.imwrite(str(path), grey)
        rows.append(Radiograph(name=path.name, patient=f"ID{number}", path=path, split="test"))
    return rows


def predict_masks(predict, images, shape, rows, spec):
    """Texts of every image; one row of thresholds stands for all."""
    rows = rows if isinstance(rows[0], list) else [rows] * len(images)
    return encode(predictions([(Frame(shape), predict)], images, spec), rows, ahead=spec.ahead)


def brightness(batch):
    """Two classes: how bright, and how bright squared."""
    assert batch.dtype == torch.uint8
    bright = batch.float() / 255
    return torch.stack([bright, bright**2], 1)


@pytest.mark.parametrize(("batch_size", "ahead", "workers"), [(1, 0, 2), (2, 1, 1), (5, 4, 0), (2, 100, None)])
def test_masks_equal_calculations_on_full_frames_in_order(images, batch_size, ahead, workers):
    spec = PredictionSpec(batch_size=batch_size, ahead=ahead, workers=workers)
    results = list(predict_masks(brightness, images, SIZE, THRESHOLDS, spec))
    assert [image for image, _ in results] == images
    for (image, texts), shape in zip(results, SHAPES, strict=True):
        grey = resize_grey(cv2.imread(str(image.path), cv2.IMREAD_GRAYSCALE), SIZE)
        maps = brightness(torch.from_numpy(grey)[None])[0].numpy()
        for map_, threshold, text in zip(maps, THRESHOLDS, texts, strict=True):
            expected = upsample.upsample(map_, shape) >= threshold
            np.testing.assert_array_equal(rle.decode(text, shape), expected)
            assert 0 < expected.sum() < expected.size


def test_every_image_may_have_thresholds_of_its_own(images):
    rows = [[0.05, 0.9], [0.5, 0.25], [2.0, 0.1], [0.3, 0.3], [0.9, 0.05]]
    found = dict(predict_masks(brightness, images, SIZE, rows, PredictionSpec(batch_size=2)))
    for image, row in zip(images, rows, strict=True):
        ((_, alone),) = predict_masks(brightness, [image], SIZE, row, PredictionSpec())
        assert found[image] == alone
    assert found[images[2]][0] == ""
    with pytest.raises(ValueError, match="shorter"):
        list(predict_masks(brightness, images, SIZE, rows[:3], PredictionSpec()))


def test_images_are_predicted_when_they_are_asked_for(images):
    calls = []

    def predict(batch):
        calls.append(len(batch))
        return brightness(batch)

    stream = predict_masks(predict, images, SIZE, THRESHOLDS, PredictionSpec(batch_size=2, ahead=0))
    assert calls == []
    assert next(stream)[0] is images[0]
    assert calls == [2]
    assert next(stream)[0] is images[1]
    assert calls == [2]
    assert next(stream)[0] is images[2]
    assert calls == [2, 2]
    assert [image.name for image, _ in stream] == ["image3.png", "image4.png"]
    assert calls == [2, 2, 1]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_broken_image_is_named_after_those_before_it(images, workers):
    images[1].path.write_bytes(b"garbage")
    stream = predict_masks(brightness, images, SIZE, THRESHOLDS, PredictionSpec(batch_size=1, workers=workers))
    assert next(stream)[0] is images[0]
    with pytest.raises(BonepipeError, match=rf"^{re.escape(str(images[1].path))}"):
        next(stream)


def round_things(batch):
    """A stand-in for a network that learned geometry: it knows discs, and nothing that is twice as long as wide."""
    maps = torch.zeros(len(batch), 1, *batch.shape[1:])
    for grey, (map_,) in zip(batch.numpy(), maps, strict=True):
        _, parts, boxes, _ = cv2.connectedComponentsWithStats((grey > 120).astype(np.uint8))
        for number, (_, _, width, height, _) in enumerate(boxes[1:], 1):
            if max(width, height) < 1.3 * min(width, height):
                map_[torch.from_numpy(parts == number)] = 1
    return maps


@pytest.fixture
def discs(tmp_path):
    """A square picture of two discs, and the same one padded to 2:1, to 1:2, and cut to a strip."""
    square = np.full((240, 240), 10, np.uint8)
    for centre in ((90, 110), (160, 150)):
        cv2.circle(square, centre, 30, 200, -1)
    pictures = [square, np.pad(square, ((0, 0), (120, 120))), np.pad(square, ((120, 120), (0, 0))), square[70:190]]
    rows = []
    for number, picture in enumerate(pictures):
        cv2.imwrite(str(tmp_path / f"{number}.png"), picture)
        rows.append(Radiograph(f"{number}.png", f"ID{number}", tmp_path / f"{number}.png", "test"))
    return rows, pictures


def dice_of_discs(members, discs, **settings):
    images, pictures = discs
    found = [whole.cutouts([0.5])[0] for _, whole in predictions(members, images, PredictionSpec(), **settings)]
    masks = [cutout.to_mask(mask, picture.shape) for mask, picture in zip(found, pictures, strict=True)]
    truths = [picture > 120 for picture in pictures]
    return [2 * (m & t).sum() / (m.sum() + t.sum()) for m, t in zip(masks, truths, strict=True)]


@pytest.mark.parametrize("shape", [(96, 96), (128, 96), (80, 121)])
def test_a_picture_of_another_aspect_has_the_masks_of_the_square_one(discs, shape):
    assert min(dice_of_discs([(Frame(shape, "pad"), round_things)], discs)) > 0.95
    assert dice_of_discs([(Frame((96, 96), "stretch"), round_things)], discs)[1:] == [0, 0, 0]


def test_members_of_other_shapes_and_fits_meet_on_the_image(discs):
    """Each map comes back without its padding, so that all show the same thing when they are averaged."""
    weights = np.full((3, 1), 1 / 3)
    members = [(Frame(shape, "pad"), round_things) for shape in ((96, 96), (64, 128), (131, 90))]
    assert min(dice_of_discs(members, discs, mean=partial(average, weights=weights))) > 0.95
    bright = lambda batch: (batch[:, None] > 120).float()  # noqa: E731
    members = [(Frame((96, 96), "stretch"), bright), *members[1:]]
    assert min(dice_of_discs(members, discs, mean=partial(average, weights=weights))) > 0.95


@pytest.mark.parametrize(
    "transforms",
    [
        [{"name": "HorizontalFlip"}, {"name": "Rotate90", "angles": [0, 90, 180, 270]}],
        [{"name": "Scale", "scales": [1, 1.25]}],
    ],
)
@pytest.mark.parametrize("window", [None, (0.5, 0.75)])
def test_views_and_windows_of_padded_frames_come_back_to_their_place(discs, transforms, window):
    spec = DataSpec(name="x", root="x", classes=("Disc",), size=(96, 120), fit="pad")
    bright = FoldModel(Path("w"), Bright().eval(), {})
    views, windows = Views(spec, transforms=transforms, force=True), Windows(spec, window=window)
    predict = windows.over(partial(mean_probabilities, [bright], views, mean=0.5, std=0.25))
    assert min(dice_of_discs([(windows.frame, predict)], discs)) > 0.95


class Bright(torch.nn.Module):
    """Logits by brightness alone."""

    def __init__(self):
        super().__init__()
        self.gain = torch.nn.Parameter(torch.tensor(20.0))

    def forward(self, images):
        return self.gain * images


def test_a_class_that_is_nowhere_gives_an_empty_text(images):
    stream = predict_masks(lambda batch: brightness(batch) * 0, images[:1], SIZE, THRESHOLDS, PredictionSpec())
    assert next(stream)[1] == ["", ""]


@pytest.mark.parametrize("settings", [{"batch_size": 0}, {"workers": -1}])
def test_impossible_settings_are_refused(settings):
    with pytest.raises(ValueError, match="must"):
        PredictionSpec(**settings)
