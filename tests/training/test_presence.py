import numpy as np
import pytest
import torch
from torch.optim.swa_utils import update_bn

from bonepipe.data.augment import Augmentation
from bonepipe.data.sampling import EpochSampler
from bonepipe.data.spec import DataSpec
from bonepipe.data.store import Store
from bonepipe.errors import BonepipeError
from bonepipe.labels import bitplane
from bonepipe.training.module import normalise
from bonepipe.training.presence import CamSpec, Crops, classifier, presence, train_presence

DATA = DataSpec(name="tiny", root="x", classes=("square", "ring", "bar"), size=96)


def shapes_store(folder, count=12, seed=0):
    """Images of 96 x 96 pixels with a grey square, a bright bar and a ring, each in most of them."""
    rng = np.random.default_rng(seed)
    images, planes = [], []
    y, x = np.mgrid[:96, :96]
    for _ in range(count):
        masks = np.zeros((96, 96, 3), bool)
        centres = rng.permutation([(22, 22), (22, 72), (72, 22), (72, 72)])[:3] + rng.integers(-6, 7, (3, 2))
        for number, (cy, cx) in enumerate(centres):
            dy, dx = abs(y - cy), abs(x - cx)
            round_ = (dy**2 + dx**2 < 14**2) & (dy**2 + dx**2 > 8**2)
            masks[..., number] = [(dy < 11) & (dx < 11), round_, (dy < 3) & (dx < 16)][number]
        image = 20 + rng.integers(0, 15, (96, 96)) + (masks * [90, 160, 220]).sum(-1)
        images.append(image.clip(0, 255).astype(np.uint8))
        planes.append(bitplane.pack(masks))
    return Store(
        folder=folder, names=tuple(f"{n}.png" for n in range(count)), images=np.stack(images), planes=np.stack(planes),
        shapes=np.array([[96, 96]] * count), points=np.empty((0, 2), np.int32), starts=np.zeros(1, np.int64),
        classes=np.empty(0, np.int64), owners=np.empty(0, np.int64), class_count=3,
    )  # fmt: skip


def test_a_class_is_shown_when_the_crop_holds_its_share():
    mask = np.zeros((32, 32, 3), bool)
    mask[0:10, 0:10, 0] = True  # 100 pixels
    mask[20:24, 20:24, 1] = True
    planes = bitplane.pack(mask)
    for columns, share, expected in ((5, 0.5, 1), (5, 0.51, 0), (4, 0.5, 0), (10, 1.0, 1), (1, 0.1, 1)):
        assert presence(planes, planes[:, :columns], 3, share).tolist() == [expected, 0, 0]
    assert presence(planes, planes, 3, 1.0).tolist() == [1, 1, 0]  # the third class has no pixels anywhere


def test_crops_tell_what_they_show_and_are_drawn_by_their_seed(tmp_path):
    store = shapes_store(tmp_path, 2)
    crops = Crops(store, Augmentation(DATA), (40, 32), 0.5)
    seen = set()
    for seed in range(30):
        item = crops[0, seed]
        assert item["image"].shape == (40, 32)
        assert np.array_equal(crops[0, seed]["image"], item["image"])
        windows = np.lib.stride_tricks.sliding_window_view(store.images[0], (40, 32))
        (top, left), *more = np.argwhere((windows == item["image"]).all((2, 3)))
        assert not more
        masks = bitplane.unpack(store.planes[0], 3)
        inside = masks[top : top + 40, left : left + 32].sum((0, 1))
        assert item["present"].tolist() == (inside >= 0.5 * masks.sum((0, 1))).tolist()
        seen.add((int(top), int(left)))
    assert len(seen) > 20


def train(store, seed, steps):
    spec = CamSpec(steps=steps, batch_size=8, crop=0.5, stride=32)
    model = classifier(3, spec, seed)
    train_presence(
        model, store, range(8), Augmentation(DATA), spec, shape=(48, 48), mean=0.15, std=0.2, seed=seed, device="cpu"
    )
    assert not model.training
    return model


def test_a_classifier_ends_with_running_statistics_of_its_last_weights(tmp_path):
    store = shapes_store(tmp_path)
    model = train(store, 0, 4)
    layers = {name: module for name, module in model.named_modules() if isinstance(module, torch.nn.BatchNorm2d)}
    kept = {name: (layer.running_mean.clone(), layer.running_var.clone()) for name, layer in layers.items()}
    crops, draws = Crops(store, Augmentation(DATA), (48, 48), 0.5), EpochSampler(range(8), 0)
    drawn = [draw for epoch in range(4) for draw in draws.draws(epoch)]
    images = normalise(torch.stack([torch.from_numpy(crops[draw]["image"]) for draw in drawn]), 0.15, 0.2)
    for layer in layers.values():
        layer.train()
    update_bn(images.split(8), model)
    for name, layer in layers.items():
        torch.testing.assert_close((layer.running_mean, layer.running_var), kept[name])


def test_the_same_seed_trains_the_same_classifier(tmp_path):
    store = shapes_store(tmp_path)
    first, again, other = (train(store, seed, 2).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not torch.equal(first["classifier.weight"], other["classifier.weight"])


def test_a_classifier_that_breaks_down_says_when(tmp_path):
    spec = CamSpec(steps=4, batch_size=2, lr=1e30, crop=0.5)
    model = classifier(3, spec, 0)
    with pytest.raises(BonepipeError, match=r"presence: .*not finite.*lower cam\.lr|presence: the loss is nan in step"):
        train_presence(
            model, shapes_store(tmp_path, 4), range(4), Augmentation(DATA), spec, shape=spec.crop_shape((96, 96)),
            mean=0.3, std=0.2, seed=0, device="cpu",
        )  # fmt: skip


def test_it_learns_which_classes_crops_of_new_images_show(tmp_path):
    """Better than always saying what is most frequent."""
    store = shapes_store(tmp_path)
    model, crops = train(store, 0, 40), Crops(store, Augmentation(DATA), (48, 48), 0.5)
    items = [crops[index, seed] for index in range(8, 12) for seed in range(10)]
    with torch.no_grad():
        logits = model(normalise(torch.from_numpy(np.stack([item["image"] for item in items])), 0.15, 0.2))
    present = np.stack([item["present"] for item in items]) > 0
    most_frequent = max(present.mean(), 1 - present.mean())
    assert ((logits.numpy() > 0) == present).mean() > most_frequent + 0.03


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"steps": 0}, r"cam\.steps=0: at least 1"),
        ({"crop": 0}, r"cam\.crop=0: above 0 and at most 1"),
        ({"threshold": 1.5}, r"cam\.threshold=1\.5"),
        ({"smooth": -1}, r"cam\.smooth=-1"),
    ],
)
def test_a_classifier_that_cannot_be_trained_is_refused(values, reason):
    with pytest.raises(ValueError, match=reason):
        CamSpec(**values)


def test_crops_too_small_to_classify_are_refused():
    assert CamSpec(crop=0.5).crop_shape((64, 128)) == (32, 64)
    with pytest.raises(ValueError, match=r"cam\.crop=0\.3: crops of 19 x 38 pixels.*raise cam\.crop or data\.size"):
        CamSpec(crop=0.3).crop_shape((64, 128))
