"""Transfer modes, and runs with other optimisers, schedules and averages that stop and go on."""

import csv
import re
from functools import partial

import pytest
import torch
from torch import nn

from bonepipe.errors import UsageError
from bonepipe.training import optim
from bonepipe.training.averaging import ExponentialMovingAverage, StochasticWeightAveraging, decay_at
from bonepipe.training.batch_norm import calibration_images
from bonepipe.training.fit import TrainerSpec, train_fold
from bonepipe.training.losses import BinaryCrossEntropy
from bonepipe.training.module import SegmentationModule
from bonepipe.training.tracking import Run
from bonepipe.training.transfer import Transfer

CLASSES = ("Radius", "Ulna")


class Crash(Exception):
    """What a killed run looks like from within."""


class Halves(nn.Module):
    """An encoder with BatchNorm and dropout, and a decoder with BatchNorm."""

    def __init__(self, encoder=True):
        super().__init__()
        part = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.2))
        part[1].running_mean.fill_(0.1)  # what pretraining left behind
        setattr(self, "encoder" if encoder else "body", part)
        self.decoder = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2, 1))

    def forward(self, images):
        return self.decoder(next(iter(self.children()))(images))


PARAMETERS = [name for name, _ in Halves().named_parameters()]


class Watching(Transfer):
    """Notes the weights when an epoch ends and the rates of all steps; may end the run before a batch."""

    def __init__(self, crash_at=None, **settings):
        super().__init__(**settings)
        self.crash_at, self.seen, self.rates, self.modes, self.steps = crash_at, [], [], [], []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if (trainer.current_epoch, batch_idx) == self.crash_at:
            raise Crash
        self.rates.append(trainer.optimizers[0].param_groups[0]["lr"])
        self.modes.append(pl_module.model.encoder.training if hasattr(pl_module.model, "encoder") else None)

    def on_train_batch_end(self, trainer, pl_module, *_):
        if trainer.global_step > len(self.steps):
            self.steps.append(state_of(pl_module.model))

    def on_train_epoch_end(self, trainer, pl_module):
        self.seen.append(state_of(pl_module.model))


def state_of(model):
    return {key: value.detach().clone() for key, value in model.state_dict().items()}


@pytest.fixture
def train(make_store, make_data, tmp_path):
    """Train the two halves on ten images, two of which validate; return module, choice and data."""
    store = make_store(10)

    def run(transfer, averaging=None, name="run", optimizer=None, scheduler=None, encoder=True, **settings):
        torch.manual_seed(3)
        module = SegmentationModule(
            Halves(encoder), BinaryCrossEntropy(),
            optimizer or (lambda model: optim.sgd(model, lr=0.1)),
            scheduler or (optim.cosine),
            classes=CLASSES, mean=0.3, std=0.2, seed=7,
        )  # fmt: skip
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        spec = TrainerSpec(**{"epochs": 4, "batch_size": 3, "precision": "32", **settings})
        data = make_data(store, batch_size=3)
        chosen = train_fold(
            module, data, averaging or StochasticWeightAveraging(start=1), spec, device="cpu", folder=folder,
            title=name, run=Run(), transfer=transfer,
        )  # fmt: skip
        return module, chosen, data

    return run


def changed(before, after, part):
    """Whether any, and whether every tensor of a part changed."""
    flags = [not torch.equal(before[key], after[key]) for key in before if key.startswith(part)]
    return any(flags), all(flags)


def initial():
    torch.manual_seed(3)
    return state_of(Halves())


def test_a_frozen_encoder_keeps_weights_and_statistics(train):
    transfer = Watching(mode="frozen")
    train(transfer)
    assert changed(initial(), transfer.seen[-1], "encoder") == (False, False)
    assert changed(initial(), transfer.seen[-1], "decoder") == (True, True)
    assert transfer.modes == [False] * 12  # also after validations


def test_a_frozen_encoder_keeps_its_statistics_in_the_average(train):
    averaging = StochasticWeightAveraging(start=0.5)
    module, _, data = train(Transfer(mode="frozen"), averaging)
    average = averaging._averaged.module
    assert changed(initial(), state_of(average), "encoder") == (False, False)
    with torch.no_grad():
        encoder = average.encoder.eval()
        images = calibration_images(data.train_dataloader())
        features = [average.decoder[0](encoder(module.images({"image": grey}))) for grey in images]
    means = torch.stack([feature.mean((0, 2, 3)) for feature in features]).mean(0)
    torch.testing.assert_close(average.decoder[1].running_mean, means, rtol=1e-4, atol=1e-5)


def test_fine_tuning_and_scratch_train_everything(train):
    for mode in ("finetune", "scratch"):
        transfer = Watching(mode=mode)
        train(transfer, name=mode)
        assert changed(initial(), transfer.seen[-1], "") == (True, True)
        assert transfer.modes == [True] * 12


def test_the_encoder_is_thawed_after_its_epochs(train):
    transfer = Watching(mode="freeze_then_unfreeze", epochs=2)
    train(transfer)
    assert changed(initial(), transfer.seen[1], "encoder") == (False, False)
    assert changed(transfer.seen[1], transfer.seen[2], "encoder") == (True, True)
    assert transfer.modes == [False] * 6 + [True] * 6


def test_thawing_leaves_alone_what_the_model_froze_itself():
    model, transfer = Halves(), Transfer(mode="freeze_then_unfreeze", epochs=1)
    model.encoder[0].bias.requires_grad_(False)
    transfer.apply(model, 0)
    assert not any(p.requires_grad for p in model.encoder.parameters())
    transfer.apply(model, 1)
    assert [name for name, p in model.named_parameters() if not p.requires_grad] == ["encoder.0.bias"]


AHEAD = optim.Ahead(k=5, alpha=0.5)  # three steps an epoch: the window straddles the checkpoint
VARIANTS = {
    "lookahead": {"optimizer": lambda m: optim.adamw(m, lr=0.01, lookahead=AHEAD)},
    "adamp": {"optimizer": lambda m: optim.adamp(m, lr=0.01, lookahead=AHEAD)},
    "radam": {"optimizer": lambda m: optim.radam(m, lr=0.01)},
    "plateau": {"scheduler": partial(optim.plateau, warmup=2, patience=0, factor=0.5)},
    "ema": {},
    "thawed": {"optimizer": lambda m: optim.adamw(m, lr=0.01)},
}


@pytest.mark.parametrize("epoch", [1, 2, 3])
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_run_that_stopped_goes_on_as_if_it_had_not(train, same_weights, variant, epoch):
    """Two epochs, then two more, equal four: optimiser, schedule, average and frozen encoder included."""
    mode = {"mode": "freeze_then_unfreeze", "epochs": 2} if variant == "thawed" else {"mode": "finetune"}
    whole, broken, resumed = Watching(**mode), Watching(crash_at=(epoch, 1), **mode), Watching(**mode)
    make = ExponentialMovingAverage if variant == "ema" else lambda: StochasticWeightAveraging(start=1)
    averagings = [make() for _ in range(3)]
    settings = VARIANTS[variant]
    module, chosen, _ = train(whole, averagings[0], "whole", **settings)
    with pytest.raises(Crash):
        train(broken, averagings[1], "broken", **settings)
    other, again, _ = train(resumed, averagings[2], "broken", **settings)
    assert resumed.rates == whole.rates[3 * epoch :]
    assert all(same_weights(a, b) for a, b in zip(resumed.seen, whole.seen[epoch:], strict=True))
    assert again == chosen
    assert averagings[2].count == averagings[0].count == (12 if variant == "ema" else 0)
    assert same_weights(module.model.state_dict(), other.model.state_dict())
    if variant == "plateau":
        assert len(set(whole.rates)) > 3  # it did drop


@pytest.mark.parametrize("every", [1, 2])
def test_plateau_is_told_each_validation_once(train, every, tmp_path, monkeypatch):
    told = []
    observe = optim.Plateau.observe
    monkeypatch.setattr(optim.Plateau, "observe", lambda self, score: (told.append(score), observe(self, score)))
    train(
        Transfer(), StochasticWeightAveraging(start=0), validate_every=every,
        scheduler=partial(optim.plateau, warmup=0),
    )  # fmt: skip
    with (tmp_path / "run" / "metrics.csv").open() as file:
        validated = [float(row["val/dice"]) for row in csv.DictReader(file) if row["val/dice"]]
    assert told == validated  # and not the average's score
    assert len(told) == 4 // every


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("decay", [0.9, 0.4])
def test_ema_follows_its_recursion_step_by_step(train, decay, accumulate):
    averaging, watching = ExponentialMovingAverage(decay=decay), Watching()
    train(watching, averaging, accumulate=accumulate)
    assert averaging.count == len(watching.steps) == (12 if accumulate == 1 else 8)
    expected = {name: watching.steps[0][name].double() for name in PARAMETERS}
    for count, state in enumerate(watching.steps[1:], 1):
        stays = min(decay, (1 + count) / (10 + count))
        expected = {name: stays * expected[name] + (1 - stays) * state[name].double() for name in PARAMETERS}
    for name, value in averaging._averaged.module.named_parameters():
        torch.testing.assert_close(value.detach().double(), expected[name], rtol=1e-5, atol=1e-6)


def test_ema_changes_nothing_in_training_and_is_scored(train, same_weights):
    with_average, without = Watching(), Watching()
    _, chosen, _ = train(with_average, ExponentialMovingAverage(decay=0.5), "with")
    train(without, name="without")
    assert all(same_weights(a, b) for a, b in zip(with_average.seen, without.seen, strict=True))
    assert re.match(r"epoch \d has Dice|the average of 12 has Dice", chosen.other)


def test_ema_stops_early_with_the_steps_that_ran(train):
    averaging = ExponentialMovingAverage()
    watching = Watching()
    train(watching, averaging, epochs=9, patience=1, optimizer=lambda m: optim.sgd(m, lr=1e-9))
    assert averaging.count == len(watching.steps) < 27


def test_the_ramp_ends_at_the_decay():
    assert [decay_at(count, 0.999) for count in (0, 8, 10**6)] == [0.1, 0.5, 0.999]
    with pytest.raises(ValueError, match="decay=1"):
        ExponentialMovingAverage(decay=1.0)


def test_bf16_clips_the_gradients_of_fused_optimisers(train):
    """Lightning refuses to clip where a fused optimiser offers to unscale gradients itself."""
    watching = Watching()
    train(watching, optimizer=lambda m: optim.adamw(m, lr=0.01), precision="bf16", clip=0.5, epochs=1)
    assert changed(initial(), watching.seen[-1], "decoder") == (True, True)


def test_modes_that_make_no_sense_are_refused(train):
    with pytest.raises(UsageError, match=r"encoder_weights=imagenet.*set model\.encoder_weights=null"):
        Transfer(mode="scratch").check("imagenet", 5)
    with pytest.raises(ValueError, match="freeze_then_unfreeze needs epochs"):
        Transfer(mode="freeze_then_unfreeze")
    with pytest.raises(ValueError, match="others none"):
        Transfer(mode="frozen", epochs=3)
    with pytest.raises(UsageError, match="transfer=frozen: this model has no part called encoder"):
        train(Transfer(mode="frozen"), encoder=False)


def test_a_frozen_encoder_without_pretrained_weights_is_warned_of():
    (warning,) = Transfer(mode="frozen").check(None, 5)
    assert "without pretrained weights" in warning
    (warning,) = Transfer(mode="freeze_then_unfreeze", epochs=5).check("imagenet", 5)
    assert "never thawed" in warning
    assert Transfer(mode="frozen").check("imagenet", 5) == []
    assert Transfer(mode="finetune").check(None, 5) == Transfer(mode="scratch").check(None, 5) == []


@pytest.mark.parametrize(("mode", "epochs"), [("frozen", 0), ("finetune", 0), ("freeze_then_unfreeze", 1)])
def test_validating_less_often_changes_neither_weights_nor_average(train, same_weights, mode, epochs):
    always, seldom = ExponentialMovingAverage(decay=0.8), ExponentialMovingAverage(decay=0.8)
    watching = [Watching(mode=mode, epochs=epochs) for _ in range(2)]
    settings = {"optimizer": lambda m: optim.adamp(m, lr=0.01, lookahead=AHEAD)}
    train(watching[0], always, "always", validate_every=1, **settings)
    train(watching[1], seldom, "seldom", validate_every=2, **settings)
    a, b = ([{key: step[key] for key in PARAMETERS} for step in watch.steps] for watch in watching)
    assert all(same_weights(*pair) for pair in zip(a, b, strict=True))
    assert same_weights(*(dict(e._averaged.module.named_parameters()) for e in (always, seldom)))
