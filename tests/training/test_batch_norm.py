"""Running statistics that fit the weights, whatever their momentum and however short the training."""

import copy

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from torch import nn
from torch.optim.swa_utils import update_bn

from bonepipe.labels import upsample
from bonepipe.models.outputs import Outputs
from bonepipe.training.averaging import StochasticWeightAveraging
from bonepipe.training.batch_norm import calibration_images, evaluating, recalibrate
from bonepipe.training.fit import TrainerSpec, train_fold
from bonepipe.training.mixing import SnapMix
from bonepipe.training.tracking import Run

CLOSE = 0.01  # Dice


class Noting(pl.Callback):
    """Notes every validation: its Dice and the network's weights."""

    def __init__(self):
        self.seen = []

    def on_validation_end(self, trainer, pl_module):
        self.seen.append((float(trainer.callback_metrics["val/dice"]), copy.deepcopy(pl_module.model)))


class Averaging(Noting, StochasticWeightAveraging):
    """The average, noting validations, its own among them."""

    def __init__(self, **settings):
        StochasticWeightAveraging.__init__(self, **settings)
        self.seen = []


@pytest.fixture
def parts(make_store, make_module, make_data):
    """A module whose BatchNorm has a momentum, and its data: 40 images, ten of which validate.

    Its features are small: the statistics that layers begin with, mean 0 and variance 1, are far from theirs.
    """
    store = make_store(40)

    def make(momentum, batch_size=6, **network):
        module = make_module(norm=True, lr=0.1, width=8, **network)
        module.model.norm.momentum = momentum
        with torch.no_grad():
            module.model.first.weight.mul_(0.05)
        return module, make_data(store, held_out=10, batch_size=batch_size)

    return make


def recomputed_dice(module, data, model):
    """Dice of a network whose statistics torch recomputes from all training images."""
    network, scores = copy.deepcopy(model), []
    network.train()
    data.sampler.set_epoch(77)
    update_bn((module.images(batch) for batch in data.train_dataloader()), network)
    network.eval()
    for batch in data.val_dataloader():
        with torch.no_grad():
            maps = network(module.images(batch)).sigmoid().numpy()
        for probabilities, truth in zip(maps, batch["truth"], strict=True):
            scores.append(upsample.dice_scores(upsample.cutouts(probabilities, [0.5] * 2, truth.shape), truth.masks))
    return float(np.mean(scores))


@pytest.mark.parametrize("precision", ["32", "bf16"])
@pytest.mark.parametrize("momentum", [0.001, 0.01, None])
def test_what_is_validated_and_chosen_does_not_depend_on_momentum_and_steps(parts, tmp_path, momentum, precision):
    (module, data), averaging = parts(momentum), Averaging(start=0.5)
    spec = TrainerSpec(epochs=4, batch_size=6, precision=precision)
    chosen = train_fold(module, data, averaging, spec, device="cpu", folder=tmp_path, title="", run=Run())
    assert len(averaging.seen) == 5  # the average last
    expected = [recomputed_dice(module, data, model) for _, model in averaging.seen]
    assert [dice for dice, _ in averaging.seen] == pytest.approx(expected, abs=CLOSE)
    assert max(expected) > 0.3
    assert chosen.dice == pytest.approx(recomputed_dice(module, data, module.model), abs=CLOSE)
    assert module.model.norm.momentum == momentum


def test_epochs_that_are_kept_but_not_validated_have_statistics_of_their_own(parts, tmp_path):
    from safetensors.torch import load_file

    module, data = parts(0.001)
    spec = TrainerSpec(epochs=3, batch_size=6, validate_every=3, keep_epochs=3, precision="32")
    averaging = StochasticWeightAveraging(start=1)
    train_fold(module, data, averaging, spec, device="cpu", folder=tmp_path, title="", run=Run())
    for epoch in (1, 2, 3):
        weights = load_file(tmp_path / f"epoch-{epoch}.safetensors")
        module.model.load_state_dict(weights)
        module.model.train()
        update_bn(
            (module.images({"image": grey}) for grey in calibration_images(data.train_dataloader())), module.model
        )
        torch.testing.assert_close(module.model.state_dict()["norm.running_var"], weights["norm.running_var"])


def test_a_plain_trainer_validates_and_leaves_statistics_that_fit(parts):
    (module, data), noting = parts(0.001), Noting()
    trainer = pl.Trainer(
        accelerator="cpu", max_epochs=3, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, callbacks=[noting],
    )  # fmt: skip
    trainer.fit(module, datamodule=data)
    expected = [recomputed_dice(module, data, model) for _, model in noting.seen[1:]]
    assert [dice for dice, _ in noting.seen[1:]] == pytest.approx(expected, abs=CLOSE)  # the first looks if all is well
    (again,) = trainer.validate(module, datamodule=data, verbose=False)
    assert again["val/dice"] == pytest.approx(expected[-1], abs=CLOSE)


class Many(nn.Module):
    """Layers that learn, a frozen one, one that keeps no statistics, a side branch that rests in prediction."""

    def __init__(self):
        super().__init__()
        norms = (nn.BatchNorm2d(3, momentum=0.01), nn.BatchNorm2d(3), nn.BatchNorm2d(3, track_running_stats=False))
        self.body = nn.Sequential(nn.Conv2d(1, 3, 3), *norms, nn.GroupNorm(1, 3), nn.BatchNorm2d(3))
        self.drop, self.side = nn.Dropout(0.5), nn.BatchNorm2d(3)

    def forward(self, images):
        maps = self.drop(self.body(images))
        return Outputs((maps, self.side(maps))) if self.training else maps


def test_only_layers_that_learn_are_recalibrated_and_nothing_else_is_touched():
    torch.manual_seed(0)
    model, images = Many(), torch.randn(12, 1, 9, 8) * 3 + 5
    frozen, side = model.body[2].eval(), model.side
    frozen.running_mean.fill_(0.25)
    side.running_mean.fill_(0.75)
    reference = copy.deepcopy(model).body
    modes, state = [module.training for module in model.modules()], torch.get_rng_state()
    recalibrate(model, images.split(4))
    assert torch.equal(torch.get_rng_state(), state)
    assert [module.training for module in model.modules()] == modes
    assert (frozen.running_mean.unique().tolist(), side.running_mean.unique().tolist()) == ([0.25], [0.75])
    for number, momentum in ((1, 0.01), (5, 0.1)):
        with torch.no_grad():
            features = [reference[:number](part).transpose(0, 1).flatten(1) for part in images.split(4)]
        norm = model.body[number]
        torch.testing.assert_close(norm.running_mean, torch.stack([f.mean(1) for f in features]).mean(0))
        torch.testing.assert_close(norm.running_var, torch.stack([f.var(1) for f in features]).mean(0))
        assert norm.momentum == momentum


def test_statistics_without_an_image_stay_as_they_are(same_weights):
    model = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2))
    model(torch.randn(3, 1, 4, 4))
    before = copy.deepcopy(model.state_dict())
    recalibrate(model, [])
    assert same_weights(model.state_dict(), before)


def test_calibration_images_are_the_same_whenever_they_are_asked_for(parts):
    _, data = parts(0.1, batch_size=7)
    first = calibration_images(data.train_dataloader())
    data.sampler.set_epoch(9)
    again = calibration_images(data.train_dataloader())
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert [len(grey) for grey in first] == [8, 8, 7, 7]  # none smaller than in training, all images
    assert [len(grey) for grey in calibration_images(data.train_dataloader(), 15)] == [8, 7]
    assert [len(grey) for grey in calibration_images(data.train_dataloader(), 3)] == [3]
    assert first[0].dtype == torch.uint8


def test_statistics_play_no_part_in_training(parts, same_weights, tmp_path):
    """SnapMix asks the network in the midst of training where the classes are."""
    weights = []
    for every in (1, 3):
        (module, data), folder = parts(0.01, mixing=SnapMix(p=1.0)), tmp_path / str(every)
        folder.mkdir()
        spec, averaging = TrainerSpec(epochs=3, batch_size=6, validate_every=every), Averaging(start=1)
        train_fold(module, data, averaging, spec, device="cpu", folder=folder, title="", run=Run())
        weights.append(averaging.seen[-1][1].state_dict())
    assert same_weights(*weights)


def test_evaluating_gives_every_module_its_mode_back():
    model = torch.nn.Sequential(torch.nn.Conv2d(1, 1, 1), torch.nn.BatchNorm2d(1))
    model[1].eval()  # as a frozen encoder is
    statistics = model[1].running_mean.clone()
    with evaluating(model):
        assert not model.training
        assert not model(torch.randn(2, 1, 3, 3)).requires_grad
    assert (model.training, model[0].training, model[1].training) == (True, True, False)
    assert torch.equal(model[1].running_mean, statistics)


def test_evaluating_under_autocast_leaves_the_gradients_of_the_step():
    model = torch.nn.Conv2d(1, 1, 1)
    with torch.autocast("cpu", torch.bfloat16):
        with evaluating(model):
            model(torch.ones(1, 1, 2, 2))
        model(torch.ones(1, 1, 2, 2)).float().sum().backward()
    assert model.weight.grad is not None


def test_evaluating_in_the_midst_of_training_normalises_by_batch_and_notes_nothing(same_weights):
    model = nn.Sequential(nn.Dropout(0.9), nn.BatchNorm2d(1))
    images, before = torch.randn(8, 1, 5, 5) * 7 + 20, copy.deepcopy(model.state_dict())
    with evaluating(model):
        answer = model(images)
    torch.testing.assert_close(answer, (images - images.mean()) / images.std(correction=0), rtol=1e-4, atol=1e-4)
    assert same_weights(model.state_dict(), before)
    assert model[1].track_running_stats
