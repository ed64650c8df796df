import copy
from functools import partial

import pytest
import pytorch_lightning as pl
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from bonepipe.training.averaging import ExponentialMovingAverage, StochasticWeightAveraging, decay_at
from bonepipe.training.batch_norm import calibration_images
from bonepipe.training.callbacks import METRIC
from bonepipe.training.fit import TrainerSpec, train_fold
from bonepipe.training.optim import cosine
from bonepipe.training.tracking import Run


class Crash(Exception):
    """What a killed run looks like from within."""


class Recording(StochasticWeightAveraging):
    """Notes the weights at the end of every epoch and the rate of every step; may crash on the way."""

    def __init__(self, *, crash_at=None, **settings):
        super().__init__(**settings)
        self.seen, self.rates, self.crash_at = [], [], crash_at

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if (trainer.current_epoch, batch_idx) == self.crash_at:
            raise Crash
        self.rates.append(trainer.optimizers[0].param_groups[0]["lr"])

    def on_train_epoch_end(self, trainer, pl_module):
        self.seen.append(copy.deepcopy(pl_module.model.state_dict()))
        super().on_train_epoch_end(trainer, pl_module)


def mean_of(states):
    return {key: torch.stack([state[key].double() for state in states]).mean(0) for key in states[0]}


def untouched(model):
    """Statistics left as they are."""


def assert_average(model, states):
    parameters = dict(model.named_parameters())
    for key, value in mean_of([{k: s[k] for k in parameters} for s in states]).items():
        torch.testing.assert_close(parameters[key].detach().double(), value, rtol=1e-6, atol=1e-7)


@pytest.fixture
def train(make_store, make_module, make_data, tmp_path):
    """Train on ten images, two of them for validation, and return the module, the averaging and the choice."""
    store = make_store(10)

    def run(averaging, *, name="run", epochs=4, accumulate=1, patience=None, **network):
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        module, data = make_module(**network), make_data(store, batch_size=3)
        spec = TrainerSpec(
            epochs=epochs, batch_size=3, accumulate=accumulate, patience=patience, clip=None, precision="32"
        )
        chosen = train_fold(module, data, averaging, spec, device="cpu", folder=folder, title=name, run=Run())
        return module, data, chosen

    return run


@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize(("start", "first"), [(0.5, 2), (0.75, 3), (0, 0), (0.6, 2)])
def test_the_average_is_the_mean_of_the_epochs_from_the_start_to_the_last(train, norm, start, first):
    averaging = Recording(start=start)
    train(averaging, norm=norm)
    assert len(averaging.seen) == 4
    assert averaging.count == 4 - first
    assert_average(averaging.averaged_model(untouched), averaging.seen[first:])
    if first < 3:
        key = "first.weight"
        assert not torch.allclose(averaging.seen[first][key], averaging.seen[3][key], atol=1e-4)


def test_start_1_averages_nothing(train):
    averaging = Recording(start=1)
    _, _, chosen = train(averaging)
    assert averaging.count == 0
    assert averaging.averaged_model(untouched) is None
    assert (chosen.source, chosen.other) == ("best epoch", "")  # nobody wanted one


@pytest.mark.parametrize(("start", "epochs", "what"), [
    (0.75, 2, "never begins"), (0.85, 3, "never begins"), (0.75, 3, "last epoch alone"), (0.5, 4, None), (1, 2, None),
])  # fmt: skip
def test_an_average_of_nothing_is_told_beforehand(start, epochs, what):
    warnings = StochasticWeightAveraging(start=start).check(epochs)
    assert len(warnings) == bool(what)
    beginning = f"averaging.start={start} of trainer.epochs={epochs}"
    assert all(what in warning and beginning in warning for warning in warnings)


def test_an_average_without_a_step_or_of_the_last_step_alone_is_told():
    assert ExponentialMovingAverage().missed(4) == "averaging never began (training ended after epoch 4)"
    assert len(ExponentialMovingAverage(decay=0).check(4)) == 1
    assert ExponentialMovingAverage().check(1) == []
    with pytest.raises(ValueError, match=r"hold=True, start=1"):
        StochasticWeightAveraging(start=1, hold=True)


@pytest.mark.parametrize("norm", [False, True])
def test_averaging_changes_neither_the_training_nor_the_schedule(train, same_weights, norm):
    with_average, without = Recording(start=0.25), Recording(start=1)
    train(with_average, name="with", norm=norm, dropout=0.3)
    train(without, name="without", norm=norm, dropout=0.3)
    assert len(without.seen) == 4
    assert all(same_weights(a, b) for a, b in zip(with_average.seen, without.seen, strict=True))
    assert with_average.rates == without.rates
    assert with_average.rates == pytest.approx([0.2 * (1 - 0.5 * step / 12) for step in range(12)])


@pytest.mark.parametrize("crash_at", [(1, 1), (2, 2), (3, 0)])
def test_a_resumed_run_averages_what_an_undisturbed_one_does(train, same_weights, crash_at):
    whole = Recording(start=0.25)
    expected, _, chosen = train(whole, name="whole", norm=True, dropout=0.2)
    with pytest.raises(Crash):
        train(Recording(start=0.25, crash_at=crash_at), name="broken", norm=True, dropout=0.2)
    resumed = Recording(start=0.25)
    module, _, again = train(resumed, name="broken", norm=True, dropout=0.2)
    assert len(resumed.seen) == 4 - crash_at[0]
    assert resumed.count == whole.count == 3
    averages = (resumed._averaged.module, whole._averaged.module)
    assert same_weights(*(dict(average.named_parameters()) for average in averages))
    assert again == chosen
    assert same_weights(module.model.state_dict(), expected.model.state_dict())


def test_accumulation_does_not_disturb_the_average(train):
    averaging = Recording(start=0.5)
    train(averaging, accumulate=2)
    assert averaging.count == 2
    assert_average(averaging.averaged_model(untouched), averaging.seen[2:])


def test_early_stopping_ends_the_average_with_the_last_epoch_that_ran(train):
    averaging = Recording(start=0.25)
    train(averaging, epochs=8, patience=3, bias=-30.0)  # predicts nothing, so that the Dice stays what it is
    assert len(averaging.seen) == 4
    assert averaging.count == 2
    assert_average(averaging.averaged_model(untouched), averaging.seen[2:])


def test_stopping_before_the_start_leaves_no_average(train):
    averaging = Recording(start=0.75)
    _, _, chosen = train(averaging, epochs=8, patience=2, bias=-30.0)
    assert len(averaging.seen) == 3
    assert averaging.averaged_model(untouched) is None
    assert chosen.source == "best epoch"
    assert str(chosen).endswith("; averaging never began (training ended after epoch 3)")


def test_batchnorm_statistics_are_those_of_the_averaged_weights_over_training_images(train):
    averaging = Recording(start=0.5)
    module, data, _ = train(averaging, norm=True)
    batches = [module.images({"image": grey}) for grey in calibration_images(data.train_dataloader())]
    assert [len(batch) for batch in batches] == [4, 4]  # in training 3, 3 and 2
    model = averaging._averaged.module
    features = [model.first(batch).detach().double().transpose(0, 1).flatten(1) for batch in batches]
    mean = torch.stack([feature.mean(1) for feature in features]).mean(0)
    variance = torch.stack([feature.var(1, unbiased=True) for feature in features]).mean(0)
    torch.testing.assert_close(model.norm.running_mean.double(), mean, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(model.norm.running_var.double(), variance, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(mean, averaging.seen[-1]["norm.running_mean"].double(), rtol=1e-3)
    assert not model.training
    assert model.norm.momentum == 0.1


def test_hold_keeps_the_rate_from_the_start_epoch_on(make_store, make_module, make_data, tmp_path):
    store, spec = make_store(10), TrainerSpec(epochs=4, batch_size=3)
    averaging = Recording(start=0.5, hold=True)
    module = make_module(schedule=partial(cosine, warmup=0), hold=averaging.hold_from)
    data = make_data(store, batch_size=3)
    train_fold(module, data, averaging, spec, device="cpu", folder=tmp_path, title="", run=Run())
    assert averaging.rates[5] > averaging.rates[6]
    assert averaging.rates[6:] == [averaging.rates[6]] * 6
    assert StochasticWeightAveraging(start=0.5).hold_from is None


def test_the_validated_weights_are_the_trained_ones(train):
    """Other implementations validate the average meanwhile, so that the best epoch is not what it seems."""
    scores = {}

    class Scoring(Recording):
        def on_validation_end(self, trainer: pl.Trainer, pl_module):
            scores.setdefault(self.start, []).append(float(trainer.callback_metrics[METRIC]))

    train(Scoring(start=0.25), name="with")
    train(Scoring(start=1), name="without")
    assert scores[0.25][:4] == scores[1]


@pytest.mark.parametrize("start", [-0.1, 1.5])
def test_the_start_is_a_share(start):
    with pytest.raises(ValueError, match="between 0 and 1"):
        StochasticWeightAveraging(start=start)


class Crossings(TorchDispatchMode):
    """Notes the operations that join tensors of two devices, each of which may have one wait for the other."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        tensors = [leaf for leaf in tree_leaves((args, kwargs, result)) if isinstance(leaf, torch.Tensor)]
        if len({tensor.device for tensor in tensors}) > 1:
            self.seen.append(str(func))
        return result


def moving(decay, network, steps):
    """An average after so many steps, and its value by the formula."""
    averaging, expected = ExponentialMovingAverage(decay=decay), None
    for step in range(steps):
        with torch.no_grad():
            for tensor in (*network.parameters(), network.norm.running_mean):
                tensor.add_(torch.randn(tensor.shape))
            network.norm.num_batches_tracked.add_(1)
        averaging.add(network)
        now = {name: value.detach().double().clone() for name, value in network.named_parameters()}
        keep = 0 if step == 0 else decay_at(step, decay)
        expected = {key: (keep * expected[key] if keep else 0) + (1 - keep) * now[key] for key in now}
    return averaging, expected


@pytest.mark.parametrize("decay", [0.0, 0.2, 0.999])
def test_a_moving_average_follows_the_formula_with_its_ramp(make_module, decay):
    network = make_module(norm=True).model
    averaging, expected = moving(decay, network, 7)
    assert averaging.count == 7
    average = averaging._averaged.module
    for key, value in average.named_parameters():
        torch.testing.assert_close(value.detach().double(), expected[key], rtol=1e-5, atol=1e-6)
        assert value.requires_grad and value.grad_fn is None
    assert torch.equal(average.norm.running_mean, network.norm.running_mean)
    assert average.norm.num_batches_tracked == 7


def test_a_moving_average_neither_sends_to_the_device_nor_reads_from_it():
    """The meta device has no numbers to read, so that every wish for one is an error."""
    network, averaging = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)).to("meta"), ExponentialMovingAverage()
    with Crossings() as crossings:
        for _ in range(4):
            averaging.add(network)
    assert averaging.count == 4
    assert crossings.seen == []


def test_a_resumed_moving_average_goes_on_as_an_undisturbed_one(make_module, same_weights):
    module = make_module(norm=True)
    averaging, _ = moving(0.999, module.model, 5)
    again = ExponentialMovingAverage()
    again.load_state_dict(copy.deepcopy(averaging.state_dict()))
    again.on_fit_start(None, module)
    assert again.count == 5
    nn.init.constant_(module.model.first.weight, 3.0)
    for average in (averaging, again):
        average.add(module.model)
    assert again.count == 6
    assert same_weights(averaging.state_dict()["averaged"], again.state_dict()["averaged"])
    assert not torch.equal(again._averaged.module.first.weight, module.model.first.weight)
