import numpy as np
import pytest
import pytorch_lightning as pl
import torch

from bonepipe.labels import bitplane
from bonepipe.models.outputs import Outputs
from bonepipe.training.losses import (
    BCEDice,
    BinaryCrossEntropy,
    Boundary,
    Dice,
    DiceFocal,
    DiceTopK,
    Focal,
    Jaccard,
    Lovasz,
    Tversky,
)
from bonepipe.training.module import window_weight

LOSSES = (BinaryCrossEntropy, Dice, Focal, DiceFocal, DiceTopK, Jaccard, Tversky, Lovasz, BCEDice)


class DeepNet(torch.nn.Module):
    """Two convolutions with a side output and a presence head, without BatchNorm."""

    def __init__(self):
        super().__init__()
        self.first, self.last = torch.nn.Conv2d(1, 3, 3, padding=1), torch.nn.Conv2d(3, 2, 3, padding=1)
        self.side, self.head = torch.nn.Conv2d(3, 2, 1), torch.nn.Linear(3, 2)

    def forward(self, images):
        features = torch.tanh(self.first(images))
        return Outputs((self.last(features), self.side(features)), self.head(features.mean((2, 3))))


def train_one_epoch(module, data, accumulate, batches=None):
    trainer = pl.Trainer(
        accelerator="cpu", max_epochs=1, accumulate_grad_batches=accumulate, limit_train_batches=batches,
        limit_val_batches=0, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, use_distributed_sampler=False,
    )  # fmt: skip
    trainer.fit(module, data.train_dataloader(), data.val_dataloader())
    return trainer


@pytest.mark.parametrize(
    ("images", "small", "window"),
    [
        (22, 2, 4),  # the last window has three batches
        (21, 2, 4),  # and the last of these one image
        (17, 4, 2),  # the last window is one image
        (16, 2, 4),  # everything divides
    ],
)
def test_accumulated_batches_train_the_weights_of_one_large_batch(
    make_store, make_module, make_data, images, small, window
):
    store = make_store(images)
    weights, steps = [], []
    for batch_size, accumulate in ((small, window), (small * window, 1)):
        module = make_module(loss=DiceFocal(), momentum=0.9)
        before = {key: value.clone() for key, value in module.model.state_dict().items()}
        trainer = train_one_epoch(module, make_data(store, batch_size=batch_size, held_out=0), accumulate)
        weights.append(module.model.state_dict())
        steps.append(trainer.global_step)
        assert any((value - before[key]).abs().max() > 1e-2 for key, value in module.model.state_dict().items())
    for key in weights[0]:
        torch.testing.assert_close(weights[0][key], weights[1][key], rtol=0, atol=1e-6)
    assert steps[0] == steps[1] == -(-images // (small * window))


def test_an_epoch_cut_short_for_debugging_is_weighted_by_the_batches_that_run(make_store, make_module, make_data):
    store = make_store(20)
    weights = []
    for batch_size, accumulate, batches in ((2, 4, 6), (4, 2, 3)):  # 12 images: a window of 8, a window of 4
        module = make_module()
        train_one_epoch(module, make_data(store, batch_size=batch_size, held_out=0), accumulate, batches)
        weights.append(module.model.state_dict())
    for key in weights[0]:
        torch.testing.assert_close(weights[0][key], weights[1][key], rtol=0, atol=1e-6)


def test_one_step_follows_the_gradient_of_the_mean_over_all_images(make_store, make_module, make_data):
    store = make_store(6)
    module = make_module(lr=0.5)
    data = make_data(store, batch_size=4, held_out=0, transforms=())
    images = (torch.from_numpy(np.array(store.images)).float() / 255 - 0.3) / 0.2
    targets = bitplane.unpack_torch(torch.from_numpy(np.array(store.planes)), 2)
    loss = torch.nn.functional.binary_cross_entropy_with_logits(module.model(images[:, None]), targets)
    parameters = dict(module.model.named_parameters())
    gradients = torch.autograd.grad(loss, list(parameters.values()))
    expected = {key: p.detach() - 0.5 * g for (key, p), g in zip(parameters.items(), gradients, strict=True)}
    trainer = train_one_epoch(module, data, 2)
    for key, value in expected.items():
        torch.testing.assert_close(module.model.state_dict()[key], value, rtol=0, atol=1e-6)
    assert float(trainer.callback_metrics["train/loss"]) == pytest.approx(loss.item(), rel=1e-5)


@pytest.mark.parametrize(("samples", "size", "window"), [(22, 2, 4), (21, 2, 4), (17, 4, 3), (3, 4, 2), (8, 2, 1)])
def test_weights_make_every_image_of_a_window_count_alike(samples, size, window):
    batches = -(-samples // size)
    counts = [min(size, samples - size * index) for index in range(batches)]
    shares = [window_weight(i, n, batches, samples, size, window) / window / n for i, n in enumerate(counts)]
    for first in range(0, batches, window):
        part = slice(first, first + window)
        assert shares[part] == pytest.approx([1 / sum(counts[part])] * len(counts[part]))


def test_a_window_ends_where_the_epoch_is_cut():
    weights = [window_weight(index, 2, 5, 20, 2, 4) for index in range(5)]  # 5 of 10 batches run
    assert weights == [1, 1, 1, 1, 4]


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("kind", LOSSES)
def test_gradients_of_four_batches_of_two_equal_those_of_one_of_eight(kind, weighted, smoothing):
    torch.manual_seed(0)
    model, loss = DeepNet(), kind(label_smoothing=smoothing, side_weight=0.4, presence_weight=0.2)
    images, targets = torch.randn(8, 1, 12, 10), (torch.rand(8, 2, 12, 10) < 0.3).float()
    targets[2, 1] = 0
    weight = None
    if weighted:
        weight = 3 * torch.rand(8, 2, 12, 10) * (torch.rand(8, 1, 12, 10) < 0.6)
        weight[5, 0] = 0
        weight[6] = 0
    gradients = []
    for size in (8, 2):
        model.zero_grad()
        for first in range(0, 8, size):
            part = slice(first, first + size)
            given = None if weight is None else weight[part]
            (loss(model(images[part]), targets[part], given) * size / 8).backward()
        gradients.append([parameter.grad.clone() for parameter in model.parameters()])
    assert max(gradient.abs().max() for gradient in gradients[0]) > 1e-3
    for large, small in zip(*gradients, strict=True):
        torch.testing.assert_close(large, small, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("kind", LOSSES)
def test_every_loss_trains_the_same_weights_accumulated_with_boundaries_and_smoothing(
    make_store, make_module, make_data, kind
):
    store, weights = make_store(12), []
    loss = kind(label_smoothing=0.1, boundary=Boundary(weight=5, sigma=2))
    for batch_size, accumulate in ((2, 4), (8, 1)):
        module = make_module(loss=loss)
        before = {key: value.clone() for key, value in module.model.state_dict().items()}
        data = make_data(store, batch_size=batch_size, held_out=0, weights=loss.pixel_weights(2))
        train_one_epoch(module, data, accumulate)
        weights.append(module.model.state_dict())
        assert any((value - before[key]).abs().max() > 1e-3 for key, value in module.model.state_dict().items())
    for key in weights[0]:
        torch.testing.assert_close(weights[0][key], weights[1][key], rtol=0, atol=1e-6)
