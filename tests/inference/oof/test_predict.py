import csv
from dataclasses import replace

import numpy as np
import pytest
import torch

from bonepipe.data.frame import Frame
from bonepipe.data.store import Store
from bonepipe.inference.oof import byte_maps, results
from bonepipe.inference.oof.predict import Validation, predict_fold
from bonepipe.labels import bitplane, polygon, rle, upsample
from bonepipe.labels.histogram import FLOOR_BIN

CLASSES = ("Radius", "Ulna", "Lunate")
SHAPES = [(40, 36), (40, 36), (50, 30), (64, 64)]
SIZE = (32, 24)


@pytest.fixture
def store(tmp_path):
    """Four images of three shapes; the last has no Ulna, and a Radius of two outlines."""
    rng = np.random.default_rng(0)
    outlines, images, planes = [], [], []
    for owner, shape in enumerate(SHAPES):
        mine = []
        for label in [0, 0, 2] if owner == 3 else [0, 1, 2]:
            top, left = rng.integers(0, 12, 2)
            bottom, right = top + rng.integers(8, 16), left + rng.integers(8, 16)
            mine.append((label, np.array([[left, top], [right, top], [right, bottom], [left, bottom]], np.int32)))
        outlines += [(owner, label, points) for label, points in mine]
        planes.append(bitplane.resize(polygon.rasterise(mine, shape, 3), SIZE))
        images.append(np.full(SIZE, owner, np.uint8))  # the fake predictor knows images by their grey value
    return Store(
        folder=tmp_path,
        names=tuple(f"image{owner}.png" for owner in range(4)),
        images=np.stack(images),
        planes=np.stack(planes),
        shapes=np.array(SHAPES),
        points=np.concatenate([points for _, _, points in outlines]),
        starts=np.arange(0, 4 * len(outlines) + 1, 4),
        classes=np.array([label for _, label, _ in outlines]),
        owners=np.array([owner for owner, _, _ in outlines]),
        class_count=3,
    )


def truth_masks(store, index):
    """The true masks bool `[C, H, W]`, straight from the outlines."""
    rows = [row for row in range(len(store.owners)) if store.owners[row] == index]
    outlines = [(int(store.classes[row]), store.points[store.starts[row] : store.starts[row + 1]]) for row in rows]
    return bitplane.unpack(polygon.rasterise(outlines, store.shape(index), 3), 3).transpose(2, 0, 1)


def predictor(store, batches):
    """Soft versions of the true low-resolution masks."""

    def predict(images):
        batches.append(len(images))
        return torch.stack([soft_maps(store, int(image[0, 0])) for image in images])

    return predict


def soft_maps(store, index):
    masks = bitplane.unpack_torch(torch.from_numpy(store.planes[index][None]), 3)
    blurred = torch.nn.functional.avg_pool2d(masks, 3, 1, 1)
    noise = torch.rand(blurred.shape, generator=torch.Generator().manual_seed(index))
    return (0.9 * blurred + 0.09 * noise)[0]


INDICES = [3, 0, 2]


@pytest.fixture
def predicted(store, tmp_path):
    folder, batches = tmp_path / "fold-0", []
    folder.mkdir()
    dice = predict_fold(predictor(store, batches), Validation(store, INDICES, CLASSES, folder, batch_size=2))
    assert batches == [2, 1]
    return folder, dice


def expectations(store):
    """Name, class, full-frame probabilities and truth of every prediction."""
    for index in INDICES:
        for label, truth in enumerate(truth_masks(store, index)):
            maps = upsample.upsample(soft_maps(store, index)[label].numpy(), store.shape(index))
            yield store.names[index], CLASSES[label], maps, truth


def read_rows(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def test_the_masks_and_their_dice_equal_calculations_on_pixels(store, predicted):
    folder, dice = predicted
    masks, scores = read_rows(folder / "oof.csv"), read_rows(folder / "oof_dice.csv")
    assert list(masks[0]) == ["image_name", "class", "rle"]
    assert list(scores[0]) == ["image_name", "class", "dice"]
    assert dice.shape == (3, 3)
    wanted = list(expectations(store))
    for (name, label, maps, truth), mask, score, value in zip(wanted, masks, scores, dice.flat, strict=True):
        assert (mask["image_name"], mask["class"]) == (score["image_name"], score["class"]) == (name, label)
        binary = maps >= 0.5
        np.testing.assert_array_equal(rle.decode(mask["rle"], truth.shape), binary)
        expected = (2 * (binary & truth).sum() + 1e-4) / (binary.sum() + truth.sum() + 1e-4)
        assert value == pytest.approx(expected, abs=1e-12)
        assert float(score["dice"]) == pytest.approx(expected, abs=1e-6)
    empty = [row for row in masks if row["image_name"] == "image3.png" and row["class"] == "Ulna"]
    assert [row["rle"] for row in empty] == [""]  # an empty mask keeps its row
    assert dice.min() > 0.7


def test_the_histograms_give_dice_at_every_threshold(store, predicted):
    folder, _ = predicted
    names, curves = results.read_curves(folder / "histograms.npz", CLASSES)
    assert names == ["image3.png", "image0.png", "image2.png"]
    assert curves.shape == (3, 3, 256)
    for (_, _, maps, truth), curve in zip(expectations(store), curves.reshape(9, 256), strict=True):
        for k in (0, *range(FLOOR_BIN, 256)):
            binary = maps >= k / 256
            expected = (2 * (binary & truth).sum() + 1e-4) / (binary.sum() + truth.sum() + 1e-4)
            assert curve[k] == pytest.approx(expected, abs=1e-12)
    with np.load(folder / "histograms.npz") as file:
        assert file["counts"].sum((2, 3)).tolist() == [[64 * 64] * 3, [40 * 36] * 3, [50 * 30] * 3]


def test_perfect_maps_score_one_at_the_size_of_the_maps(tmp_path, store):
    square = Store(**{**vars(store), "shapes": np.array([SIZE] * 4)})

    def perfect(images):
        return torch.stack(
            [torch.stack([torch.from_numpy(m).float() for m in truth_masks(square, int(i[0, 0]))]) for i in images]
        )

    dice = predict_fold(perfect, Validation(square, [0, 1], CLASSES, tmp_path, batch_size=4))
    np.testing.assert_array_equal(dice, 1)


@pytest.mark.parametrize("fit", ["pad", "stretch"])
def test_true_maps_of_a_frame_score_as_well_padded_as_stretched(tmp_path, store, fit):
    """The planes of each image as its frame shows them come back as the masks that they were made of."""
    large = [bitplane.pack(np.moveaxis(truth_masks(store, index), 0, -1)) for index in range(4)]
    frame = Frame((96, 72), fit)
    framed = replace(
        store, fit=fit, planes=np.stack([frame.place(planes, bitplane.resize) for planes in large]),
        images=np.stack([np.full(frame.shape, index, np.uint8) for index in range(4)]),
    )  # fmt: skip

    def perfect(images):
        planes = torch.from_numpy(framed.planes[images[:, 0, 0].numpy()])
        return bitplane.unpack_torch(planes, 3)

    dice = predict_fold(perfect, Validation(framed, range(4), CLASSES, tmp_path, batch_size=3))
    assert dice[dice > 0].min() > 0.9
    found = byte_maps.read(tmp_path / "probabilities.npz", CLASSES)
    boxes = [frame.box(store.shape(index)) for index in range(4)]
    assert [found.maps(index).shape[1:] for index in range(4)] == [(box.height, box.width) for box in boxes]
    assert (len(set(found.shapes)) > 1) == (fit == "pad")


def test_nothing_but_the_four_files_is_left(predicted):
    names = {path.name for path in predicted[0].iterdir()}
    assert names == {"oof.csv", "oof_dice.csv", "histograms.npz", "probabilities.npz"}


def test_probabilities_are_kept_as_bytes(predicted, store):
    found = byte_maps.read(predicted[0] / "probabilities.npz", CLASSES)
    assert found.names == [store.names[index] for index in INDICES]
    for position, index in enumerate(INDICES):
        expected = np.floor(soft_maps(store, index).numpy() * 256).clip(max=255)
        np.testing.assert_array_equal(np.floor(found.maps(position) * 256), expected)


def test_a_predictor_that_fails_leaves_no_file(store, tmp_path):
    def predict(images):
        if int(images[0, 0, 0]) == 2:
            raise RuntimeError("out of memory")
        return torch.stack([soft_maps(store, int(image[0, 0])) for image in images])

    folder = tmp_path / "fold-1"
    folder.mkdir()
    with pytest.raises(RuntimeError, match="out of memory"):
        predict_fold(predict, Validation(store, INDICES, CLASSES, folder, batch_size=1))
    assert list(folder.iterdir()) == []
