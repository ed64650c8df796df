import math

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from bonepipe.errors import BonepipeError
from bonepipe.training.averaging import ExponentialMovingAverage, StochasticWeightAveraging
from bonepipe.training.finite import SKIPPED, StopWhenNotFinite, first_not_finite, require_finite
from bonepipe.training.fit import TrainerSpec, save_weights, train_fold
from bonepipe.training.tracking import Run


class Root(torch.autograd.Function):
    """The identity, whose gradient is not finite."""

    @staticmethod
    def forward(context, values):
        return values.clone()

    @staticmethod
    def backward(context, gradient):
        return gradient / 0


class Breaks(nn.Module):
    """Two convolutions; in one step the answer of the first or its gradient stops being finite."""

    def __init__(self, at, how, norm=True):
        super().__init__()
        self.first, self.norm = nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.last, self.at, self.how, self.step = nn.Conv2d(4, 2, 1), at, how, 0

    def forward(self, images):
        maps = self.norm(self.first(images))
        if self.training:
            self.step += 1
            if self.step == self.at:
                maps = Root.apply(maps) if self.how == "gradient" else maps / 0
        return self.last(maps)


@pytest.fixture
def train(make_store, make_module, make_data, tmp_path):
    """Train in a folder below tmp_path: 8 images, 4 steps an epoch."""
    store = make_store(10)

    def run(model=None, averaging=None, *, lr=0.05, settings=None):
        folder = tmp_path / "run"
        folder.mkdir(exist_ok=True)
        spec = TrainerSpec(**{"epochs": 3, "batch_size": 2, "clip": None, **(settings or {})})
        averaging = averaging or StochasticWeightAveraging(start=0.5)
        module, data = make_module(model=model, lr=lr, norm=True), make_data(store, batch_size=2)
        train_fold(module, data, averaging, spec, device="cpu", folder=folder, title="fold 0", run=Run())
        return module

    return run


@pytest.mark.parametrize(
    ("how", "what"),
    [("loss", "the loss is not finite from step 7 on"), ("gradient", r"the gradient of norm\.bias is not finite from")],
)
def test_a_training_that_breaks_down_stops_and_says_where_it_began(train, tmp_path, how, what):
    with pytest.raises(BonepipeError) as caught:
        train(Breaks(7, how))
    message = str(caught.value)
    assert message.startswith("fold 0: broke down in epoch 2: ")
    assert what.replace("\\", "") in message
    assert "step 7" in message
    assert "last.ckpt holds the end of epoch 1" in message
    assert "optimizer.lr" in message and "name=" in message
    kept = torch.load(tmp_path / "run" / "last.ckpt", weights_only=True)
    assert kept["global_step"] == 4
    assert first_not_finite(kept["state_dict"]) is None


def test_a_training_that_breaks_down_in_its_first_epoch_leaves_nothing(train, tmp_path):
    with pytest.raises(BonepipeError, match=r"epoch 1: the loss .* no epoch was finished"):
        train(Breaks(1, "loss"), ExponentialMovingAverage())
    assert list((tmp_path / "run").iterdir()) == []


@pytest.mark.parametrize("lr", [1e18, 1e38])
def test_a_learning_rate_that_is_far_too_high_is_noticed(train, tmp_path, lr):
    with pytest.raises(BonepipeError, match=r"fold 0: broke down in epoch 1: .*lower optimizer\.lr"):
        train(lr=lr)
    assert list((tmp_path / "run").iterdir()) == []


def test_the_run_that_broke_down_goes_on_from_its_last_good_epoch(train, tmp_path):
    with pytest.raises(BonepipeError):
        train(Breaks(7, "loss"))
    module = train(Breaks(0, "loss"))
    assert first_not_finite(module.model.state_dict()) is None
    assert torch.load(tmp_path / "run" / "last.ckpt", weights_only=True)["global_step"] == 12


def test_the_operation_is_named_on_request(train):
    with pytest.raises(
        BonepipeError, match=r"epoch 2, step 7: Function 'NativeBatchNormBackward0' returned nan values.*lr"
    ):
        train(Breaks(7, "gradient"), settings={"detect_anomaly": True})


class Trainer:
    """As much of Lightning's as the callback looks at."""

    def __init__(self, scaler):
        self.precision_plugin = type("Plugin", (), {"scaler": scaler})()
        self.global_step, self.current_epoch, self.is_last_batch = 0, 0, True


def test_weights_that_only_the_last_step_of_an_epoch_breaks_are_noticed(make_module, tmp_path):
    module, trainer, watch = make_module(), Trainer(None), StopWhenNotFinite("fold 0", tmp_path / "last.ckpt")
    watch.on_train_start(trainer, module)
    watch.on_train_batch_end(trainer, module, None, None, 0)
    trainer.global_step = 5
    module.model.first.weight.data[0, 0, 0, 0] = math.inf
    with pytest.raises(BonepipeError, match=r"first\.weight is not finite after step 5"):
        watch.on_train_batch_end(trainer, module, None, None, 0)
    with pytest.raises(BonepipeError, match=r"fold 0: before its first step: first\.weight holds"):
        watch.on_train_start(trainer, module)


@pytest.mark.parametrize(("scaler", "allowed"), [(None, 0), (object(), SKIPPED)])
def test_loss_scaling_may_skip_steps_but_not_for_ever(make_module, tmp_path, scaler, allowed):
    module, trainer, watch = make_module(), Trainer(scaler), StopWhenNotFinite("fold 0", tmp_path / "last.ckpt")

    def step(value):
        for parameter in module.parameters():
            parameter.grad = torch.full_like(parameter, value)
        watch.on_before_optimizer_step(trainer, module, None)
        trainer.global_step += 1
        watch.on_train_batch_end(trainer, module, None, None, 0)

    watch.on_train_start(trainer, module)
    step(1.0)
    for _ in range(2):  # a finite step in between begins a new row
        for _ in range(allowed):
            step(math.inf)
        step(1.0)
    with pytest.raises(
        BonepipeError, match=rf"gradient of last\.bias is not finite from step {trainer.global_step + 1} "
    ):
        for _ in range(allowed + 1):
            step(math.inf)


def test_a_loss_that_is_not_finite_is_a_fault_with_loss_scaling_too(make_module, tmp_path):
    module, trainer, watch = make_module(), Trainer(object()), StopWhenNotFinite("fold 0", tmp_path / "last.ckpt")
    watch.on_train_start(trainer, module)
    for value in (1.0, math.nan, 1.0):
        watch.on_before_backward(trainer, module, torch.tensor(value))
        trainer.global_step += 1
    with pytest.raises(BonepipeError, match="the loss is not finite from step 2 on"):
        watch.on_train_batch_end(trainer, module, None, None, 0)


def test_a_checkpoint_with_broken_weights_is_not_gone_on_from(train, tmp_path):
    train()
    path = tmp_path / "run" / "last.ckpt"
    content = torch.load(path, weights_only=True)
    content["state_dict"]["model.last.bias"][1] = math.nan
    torch.save(content, path)
    with pytest.raises(BonepipeError, match=r"last\.ckpt: last\.bias holds numbers that are not finite"):
        train(settings={"epochs": 4})


def test_weights_that_are_not_finite_are_not_saved(tmp_path):
    model = nn.Conv2d(1, 2, 3)
    save_weights(model, tmp_path / "good.safetensors", {})
    assert first_not_finite(load_file(tmp_path / "good.safetensors")) is None
    model.bias.data[0] = -math.inf
    with pytest.raises(BonepipeError, match=r"bad\.safetensors: bias holds numbers that are not finite"):
        save_weights(model, tmp_path / "bad.safetensors", {})
    assert [path.name for path in tmp_path.iterdir()] == ["good.safetensors"]


def test_the_first_tensor_that_is_not_finite_is_named():
    tensors = {
        "count": torch.tensor(3),
        "a": torch.zeros(2),
        "b": torch.tensor([1.0, math.nan]),
        "c": torch.tensor(math.inf),
    }
    assert first_not_finite(tensors) == "b"
    assert first_not_finite({"a": torch.zeros(2)}) is None
    require_finite({"a": torch.zeros(2)}, "x", "")
    with pytest.raises(BonepipeError, match=r"x: b holds .* not finite \(NaN or infinity\); do this"):
        require_finite(tensors, "x", "do this")
