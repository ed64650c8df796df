import cv2
import numpy as np
import pytest
import torch

from bonepipe.data.catalog import Radiograph
from bonepipe.data.image import resize_grey
from bonepipe.errors import BonepipeError
from bonepipe.inference.predict import PredictionSpec, encode, predictions
from bonepipe.labels import rle, upsample

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
    return encode(predictions(predict, images, shape, spec), rows, ahead=spec.ahead)


def brightness(batch):
    """Two classes: how bright, and how bright squared."""
    assert batch.dtype == torch.uint8
    bright = batch.float() / 255
    return torch.stack([bright, bright**2], 1)


@pytest.mark.parametrize(("batch_size", "ahead"), [(1, 0), (2, 1), (5, 4), (2, 100)])
def test_masks_equal_calculations_on_full_frames_in_order(images, batch_size, ahead):
    spec = PredictionSpec(batch_size=batch_size, ahead=ahead)
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


def test_a_broken_image_is_named_after_those_before_it(images):
    images[1].path.write_bytes(b"garbage")
    stream = predict_masks(brightness, images, SIZE, THRESHOLDS, PredictionSpec(batch_size=1))
    assert next(stream)[0] is images[0]
    with pytest.raises(BonepipeError, match=r"image1\.png"):
        next(stream)


def test_a_class_that_is_nowhere_gives_an_empty_text(images):
    stream = predict_masks(lambda batch: brightness(batch) * 0, images[:1], SIZE, THRESHOLDS, PredictionSpec())
    assert next(stream)[1] == ["", ""]


@pytest.mark.parametrize("settings", [{"batch_size": 0}, {"workers": -1}])
def test_impossible_settings_are_refused(settings):
    with pytest.raises(ValueError, match="must"):
        PredictionSpec(**settings)
