import csv
import os
import signal
from pickle import UnpicklingError

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from bonepipe.data.batches import TrainingImages
from bonepipe.errors import BonepipeError, UsageError
from bonepipe.interruption import Interrupted
from bonepipe.labels import polygon
from bonepipe.training.averaging import StochasticWeightAveraging
from bonepipe.training.fit import Chosen, TrainerSpec, make_trainer, train_fold
from bonepipe.training.losses import Loss
from bonepipe.training.optim import plateau
from bonepipe.training.tracking import Run


class Crash(Exception):
    """What a killed run looks like from within."""


class Crashing(StochasticWeightAveraging):
    """Averaging that ends the run before a batch, or when everything but the choice is done."""

    def __init__(self, *, at=None, when_done=False, **settings):
        super().__init__(**settings)
        self.at, self.when_done = at, when_done

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if (trainer.current_epoch, batch_idx) == self.at:
            raise Crash

    def averaged_model(self, *given):
        if self.when_done:
            raise Crash
        return super().averaged_model(*given)


def read_rows(path):
    with path.open() as file:
        return list(csv.DictReader(file))


@pytest.fixture
def train(make_store, make_module, make_data, tmp_path):
    """Train in a folder below tmp_path; 10 images, the last two validate."""
    store = make_store(10)

    def run(name="run", averaging=None, *, batch_size=3, workers=0, settings=None, **network):
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        spec = TrainerSpec(**{"epochs": 4, "batch_size": batch_size, "precision": "32", **(settings or {})})
        network = {"momentum": 0.9, "dropout": 0.3, "norm": True, **network}
        module, data = make_module(**network), make_data(store, batch_size=batch_size, workers=workers)
        averaging = averaging or Crashing(start=1)
        chosen = train_fold(module, data, averaging, spec, device="cpu", folder=folder, title=name, run=Run())
        return module, chosen, folder

    return run


def checkpoint(folder):
    return torch.load(folder / "last.ckpt", weights_only=True)


@pytest.mark.parametrize(("at", "workers"), [((2, 1), 0), ((2, 0), 0), ((3, 2), 0), ((0, 1), 0), ((2, 1), 2)])
def test_a_resumed_run_ends_with_the_very_weights_of_an_undisturbed_one(train, same_weights, at, workers):
    whole, chosen, folder = train("whole", Crashing(start=0.5))
    with pytest.raises(Crash):
        train("broken", Crashing(start=0.5, at=at), workers=workers)
    assert (folder.parent / "broken" / "last.ckpt").is_file() == (at[0] > 0)
    resumed, again, other = train("broken", Crashing(start=0.5), workers=workers)
    assert same_weights(resumed.model.state_dict(), whole.model.state_dict())
    assert again == chosen
    assert same_weights(checkpoint(folder)["state_dict"], checkpoint(other)["state_dict"])
    assert not torch.equal(whole.model.first.weight, torch.zeros_like(whole.model.first.weight))


def test_a_run_killed_between_training_and_choosing_chooses_the_same(train, same_weights):
    averagings = [Crashing(start=0.25) for _ in range(2)]
    whole, chosen, _ = train("whole", averagings[0])
    with pytest.raises(Crash):
        train("broken", Crashing(start=0.25, when_done=True))
    resumed, again, folder = train("broken", averagings[1])
    assert again == chosen
    assert same_weights(*(averaging._averaged.module.state_dict() for averaging in averagings))
    assert same_weights(resumed.model.state_dict(), whole.model.state_dict())
    assert len(read_rows(folder / "metrics.csv")) == 4


def test_the_history_has_every_epoch_once(train):
    with pytest.raises(Crash):
        train("run", Crashing(start=1, at=(2, 1)))
    _, _, folder = train("run")
    rows = read_rows(folder / "metrics.csv")
    assert [row["epoch"] for row in rows] == ["0", "1", "2", "3"]
    assert [row["step"] for row in rows] == ["3", "6", "9", "12"]
    assert all(0 < float(row["seconds"]) < 60 for row in rows)
    assert all(float(row["train/loss"]) > 0 for row in rows)
    for row in rows:
        both = [float(row["val/dice/Radius"]), float(row["val/dice/Ulna"])]
        assert float(row["val/dice"]) == pytest.approx(np.mean(both), abs=1e-6)
    assert sorted(path.name for path in folder.iterdir()) == ["last.ckpt", "metrics.csv", "steps.csv"]


def test_the_chosen_epoch_is_the_best_of_the_history(train):
    _, chosen, folder = train(settings={"epochs": 6})
    dices = [float(row["val/dice"]) for row in read_rows(folder / "metrics.csv")]
    assert len(set(dices)) > 1
    assert chosen == Chosen("best epoch", dices.index(max(dices)) + 1, max(dices))


def slow_dice(module, store, indices):
    """The module's Dice, on whole masks at the original size."""
    scores = []
    module.eval()
    for index in indices:
        shape = store.shape(index)
        image = (torch.from_numpy(np.array(store.images[index])).float() / 255 - 0.3) / 0.2
        with torch.inference_mode():
            maps = module(image[None, None]).sigmoid()
        large = torch.nn.functional.interpolate(maps, shape, mode="bilinear", align_corners=False)[0] >= 0.5
        for label, mask in enumerate(large.numpy()):
            rows = [
                row for row in range(len(store.owners)) if (store.owners[row], store.classes[row]) == (index, label)
            ]
            outlines = [(0, store.points[store.starts[row] : store.starts[row + 1]]) for row in rows]
            truth = polygon.rasterise(outlines, shape, 1)[..., 0] > 0
            scores.append((2 * (mask & truth).sum() + 1e-4) / (mask.sum() + truth.sum() + 1e-4))
    return float(np.mean(scores))


@pytest.mark.parametrize("lr", [0.05, 0.8])
def test_the_module_holds_the_better_of_best_epoch_and_average(train, make_store, lr):
    averaging = Crashing(start=0.5)
    module, chosen, folder = train(averaging=averaging, lr=lr, settings={"epochs": 6})
    assert slow_dice(module, make_store(10), [8, 9]) == pytest.approx(chosen.dice, abs=1e-5)
    dices = [float(row["val/dice"]) for row in read_rows(folder / "metrics.csv")]
    assert chosen.dice >= max(dices)
    state = module.model.state_dict()
    average = averaging._averaged.module.state_dict()
    assert torch.equal(state["first.weight"], average["first.weight"]) == (chosen.source == "average")


@pytest.mark.parametrize(("gain", "source"), [(0.05, "average"), (0.0, "best epoch"), (-0.05, "best epoch")])
def test_the_average_must_be_strictly_better(train, monkeypatch, gain, source):
    import pytorch_lightning as pl

    seen = []

    def validate(trainer, module, *args, **kwargs):
        seen.append({key: value.clone() for key, value in module.model.state_dict().items()})
        return [{"val/dice": float(trainer.callbacks[0].dice) + gain}]

    monkeypatch.setattr(pl.Trainer, "validate", validate)
    averaging = Crashing(start=0.25)
    module, chosen, folder = train(averaging=averaging)
    dices = [float(row["val/dice"]) for row in read_rows(folder / "metrics.csv")]
    assert chosen.source == source
    assert chosen.dice == pytest.approx(max(dices) + max(0, gain))
    assert chosen.epoch == (3 if source == "average" else dices.index(max(dices)) + 1)
    assert torch.equal(seen[0]["last.weight"], averaging._averaged.module.last.weight)
    assert torch.equal(module.model.last.weight, seen[0]["last.weight"]) == (source == "average")


def test_validating_less_often_leaves_the_trained_weights_unchanged(train, same_weights):
    always, seldom = (train(f"every {n}", settings={"validate_every": n})[2] for n in (1, 2))
    a, b = checkpoint(always), checkpoint(seldom)
    assert same_weights(a["state_dict"], b["state_dict"])
    rows = read_rows(seldom / "metrics.csv")
    assert len(rows) == 4
    counts = [sum(key.startswith("BestWeights") for key in state["callbacks"]) for state in (a, b)]
    assert counts == [1, 1]


def validated(folder):
    return [number for number, row in enumerate(read_rows(folder / "metrics.csv"), 1) if row["val/dice"]]


RISING = {"dropout": 0.0, "bias": 1.0, "lr": 0.02}  # the Dice of such a training rises from epoch to epoch


def test_the_last_epoch_is_always_validated_and_a_candidate(train):
    settings = {"epochs": 7, "validate_every": 4}
    _, chosen, folder = train(settings=settings, **RISING)
    assert validated(folder) == [4, 7]
    assert chosen.epoch == 7
    with pytest.raises(Crash):
        train("broken", Crashing(start=1, at=(6, 1)), settings=settings, **RISING)
    _, again, folder = train("broken", settings=settings, **RISING)
    assert validated(folder) == [4, 7]
    assert again == chosen


class Stopping(Crashing):
    """Asks for an end of the training, as a time limit does."""

    def on_train_batch_end(self, trainer, *given):
        trainer.should_stop = (trainer.current_epoch, given[-1]) == self.at


def test_the_epoch_in_which_training_is_stopped_is_validated(train):
    stopping = Stopping(start=1)
    stopping.on_train_batch_start, stopping.at = lambda *given: None, (6, 1)
    _, chosen, folder = train(averaging=stopping, settings={"epochs": 9, "validate_every": 5}, **RISING)
    assert validated(folder) == [5, 7]
    assert chosen.epoch == 7


class Interrupting(StochasticWeightAveraging):
    """A signal comes in training, in an epoch's validation, or while the finished average is validated."""

    def __init__(self, when):
        super().__init__(start=0.25)
        self.when, self.epochs = when, 0

    def on_train_batch_end(self, *given):
        self.interrupt("training")
        super().on_train_batch_end(*given)

    def on_validation_start(self, trainer, module):
        self.interrupt("validation" if trainer.state.fn == "fit" else "average")

    def interrupt(self, now):
        if now == self.when:
            raise Interrupted(signal.SIGHUP)


@pytest.mark.parametrize("when", ["training", "validation", "average"])
def test_a_signal_is_never_lightnings_exit_code(train, when):
    with pytest.raises(Interrupted, match="SIGHUP"):
        train(averaging=Interrupting(when))


def test_a_training_shorter_than_the_time_between_validations_is_validated_at_its_end(train):
    """As in a first try of `trainer.epochs=2` where a recipe validates less often."""
    _, chosen, folder = train(settings={"epochs": 2, "validate_every": 9})
    assert validated(folder) == [2]
    assert chosen.dice >= 0


def test_a_checkpoint_of_another_model_is_named(train):
    train("run")
    with pytest.raises(BonepipeError, match=r"last\.ckpt.*another model.*move it away"):
        train("run", width=6, settings={"epochs": 6})
    with pytest.raises(BonepipeError, match=r"last\.ckpt.*another model"):
        train("run", norm=False, settings={"epochs": 6})


class Malicious:
    """Runs a command when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_a_checkpoint_is_never_unpickled(train, tmp_path):
    _, _, folder = train("run")
    content = checkpoint(folder)
    torch.save({**content, "extra": Malicious(tmp_path / "executed")}, folder / "last.ckpt")
    with pytest.raises(BonepipeError, match=r"last\.ckpt.*not trusted.*move it away"):
        train("run", settings={"epochs": 6})
    assert not (tmp_path / "executed").exists()
    torch.load(folder / "last.ckpt", weights_only=False)
    assert (tmp_path / "executed").exists()  # the trap does work


@pytest.mark.parametrize("content", [b"", b"nonsense" * 20, None])
def test_a_broken_checkpoint_is_named(train, content):
    _, _, folder = train("run")
    path = folder / "last.ckpt"
    path.write_bytes(path.read_bytes()[:3000] if content is None else content)
    with pytest.raises(BonepipeError, match=r"last\.ckpt.*move it away"):
        train("run", settings={"epochs": 6})


class Unreadable(TrainingImages):
    """Images of which one cannot be read, with an error that torch also has for a checkpoint that was cut short."""

    def __getitem__(self, draw):
        raise self.error


@pytest.mark.parametrize(
    "error",
    [EOFError("the image ends early"), RuntimeError("PytorchStreamReader: no state_dict"), UnpicklingError("x")],
)
def test_an_error_while_training_goes_on_is_not_blamed_on_the_checkpoint(train, monkeypatch, error):
    with pytest.raises(Crash):
        train("run", Crashing(start=1, at=(2, 0)))
    with monkeypatch.context() as patch:
        patch.setattr(Unreadable, "error", error, raising=False)
        patch.setattr("bonepipe.data.datamodule.TrainingImages", Unreadable)
        with pytest.raises(type(error), match=str(error)):
            train("run")
    _, _, folder = train("run")  # and the checkpoint is as good as ever
    assert [row["epoch"] for row in read_rows(folder / "metrics.csv")] == ["0", "1", "2", "3"]


def test_a_failed_save_leaves_the_previous_checkpoint_whole(train, monkeypatch):
    with pytest.raises(Crash):
        train("run", Crashing(start=1, at=(1, 0)))
    save, saved = torch.save, []

    def cut_short(content, file, *args, **kwargs):
        save(content, file, *args, **kwargs)
        saved.append(file.truncate(100))
        raise Crash

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", cut_short)
        with pytest.raises(Crash):
            train("run")
    assert saved
    _, _, folder = train("run")
    assert [row["epoch"] for row in read_rows(folder / "metrics.csv")] == ["0", "1", "2", "3"]


def kept_epochs(folder):
    return {path.stem: load_file(path) for path in folder.glob("epoch-*.safetensors")}


@pytest.mark.parametrize("at", [None, (3, 1)])
def test_the_last_epochs_weights_are_kept_through_an_interruption(train, tmp_path, same_weights, at):
    settings = {"keep_epochs": 2}
    if at:
        with pytest.raises(Crash):
            train("broken", Crashing(start=1, at=at), settings=settings)
        assert set(kept_epochs(tmp_path / "broken")) == {"epoch-2", "epoch-3"}
    *_, folder = train("broken" if at else "whole", settings=settings)
    kept = kept_epochs(folder)
    assert set(kept) == {"epoch-3", "epoch-4"}
    last = {key.removeprefix("model."): value for key, value in checkpoint(folder)["state_dict"].items()}
    assert same_weights(kept["epoch-4"], {key: last[key] for key in kept["epoch-4"]})
    _, _, third = train("three", settings={**settings, "epochs": 4, "keep_epochs": 3})
    assert same_weights(kept_epochs(third)["epoch-3"], kept["epoch-3"])
    assert not same_weights(kept["epoch-3"], kept["epoch-4"])


def test_no_epochs_are_kept_unless_asked_for(train):
    assert not kept_epochs(train("plain")[2])
    with pytest.raises(ValueError, match=r"trainer\.keep_epochs=-1"):
        TrainerSpec(epochs=1, batch_size=1, keep_epochs=-1)


def test_patience_stops_and_a_resumed_run_stays_stopped(train):
    settings = {"epochs": 9, "patience": 2}
    _, chosen, folder = train(settings=settings, bias=-30.0, lr=1e-3)  # predicts nothing: the Dice stays what it is
    rows = read_rows(folder / "metrics.csv")
    assert len(rows) == 3
    assert len({row["val/dice"] for row in rows}) == 1
    assert chosen.epoch == 1
    before = checkpoint(folder)["state_dict"]
    _, again, _ = train(settings=settings, bias=-30.0, lr=1e-3)
    assert again == chosen
    assert len(read_rows(folder / "metrics.csv")) == 3
    assert all(torch.equal(before[key], value) for key, value in checkpoint(folder)["state_dict"].items())


def test_patience_counts_on_after_an_interruption(train):
    settings = {"epochs": 9, "patience": 3}
    with pytest.raises(Crash):
        train(averaging=Crashing(start=1, at=(2, 1)), settings=settings, bias=-30.0, lr=1e-3)
    _, _, folder = train(settings=settings, bias=-30.0, lr=1e-3)
    assert len(read_rows(folder / "metrics.csv")) == 4


def test_training_learns(train):
    _, _, folder = train(settings={"epochs": 12}, dropout=0.0)
    rows = read_rows(folder / "metrics.csv")
    assert float(rows[-1]["train/loss"]) < 0.8 * float(rows[0]["train/loss"])


def test_batches_may_be_limited_for_debugging(train):
    _, _, folder = train(settings={"train_batches": 1, "val_batches": 1})
    assert [row["step"] for row in read_rows(folder / "metrics.csv")] == ["1", "2", "3", "4"]


@pytest.mark.parametrize("value", [0, -1])
@pytest.mark.parametrize(
    "name", ["epochs", "batch_size", "accumulate", "validate_every", "patience", "train_batches", "val_batches"]
)
def test_numbers_below_one_are_refused(name, value):
    with pytest.raises(ValueError, match=f"trainer.{name}={value}"):
        TrainerSpec(**{"epochs": 1, "batch_size": 1, name: value})


@pytest.mark.parametrize("clip", [0.0, -1.0, float("nan"), float("inf")])
def test_a_clip_that_makes_no_sense_is_refused(clip):
    with pytest.raises(ValueError, match=r"trainer\.clip=.*null"):
        TrainerSpec(epochs=1, batch_size=1, clip=clip)


class Rates(StochasticWeightAveraging):
    """Notes the rate of each optimiser step by epoch, and may end the run before a batch."""

    def __init__(self, at=None):
        super().__init__(start=1)
        self.rates, self.at = {}, at

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        self.rates.setdefault(trainer.current_epoch, []).append(optimizer.param_groups[0]["lr"])

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if (trainer.current_epoch, batch_idx) == self.at:
            raise Crash


@pytest.mark.parametrize("schedule", [None, lambda optimizer, steps, hold: plateau(optimizer, steps, hold, patience=0)])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_the_history_has_the_learning_rate_of_each_epochs_last_step(train, schedule, accumulate):
    whole, first, second = (Rates(at) for at in (None, (2, 1), None))
    settings = {"epochs": 6, "accumulate": accumulate}
    network = {"bias": -30.0, "lr": 1e-3} | ({} if schedule is None else {"schedule": schedule})  # the Dice stays 0
    _, _, folder = train("whole", whole, settings=settings, **network)
    with pytest.raises(Crash):
        train("resumed", first, settings=settings, **network)
    _, _, other = train("resumed", second, settings=settings, **network)
    expected = [rates[-1] for _, rates in sorted(whole.rates.items())]
    assert len(set(expected)) > 2
    for path in (folder, other):
        assert [float(row["lr"]) for row in read_rows(path / "metrics.csv")] == pytest.approx(expected, rel=1e-12)
    assert {epoch: rates[-1] for epoch, rates in (first.rates | second.rates).items()} == dict(enumerate(expected))


@pytest.mark.parametrize(
    ("images", "batch_size", "train_batches", "smallest"),
    [(8, 4, None, 4), (9, 4, None, 1), (9, 4, 2, 4), (9, 4, 3, 1), (11, 4, None, 3), (3, 4, None, 3), (5, 1, None, 1)],
)
def test_the_smallest_batch_of_an_epoch(images, batch_size, train_batches, smallest):
    spec = TrainerSpec(epochs=1, batch_size=batch_size, train_batches=train_batches)
    assert spec.smallest_batch(images) == smallest


class Deep(torch.nn.Module):
    """Down to one pixel, BatchNorm, and up again; `looking` looks at values, so that shapes alone do not suffice."""

    def __init__(self, looking=False):
        super().__init__()
        self.first, self.norm, self.looking = torch.nn.Conv2d(1, 2, 1), torch.nn.BatchNorm2d(2), looking

    def forward(self, images):
        if self.looking and images.sum().item() == 0.5:
            return images
        deep = self.norm(torch.nn.functional.adaptive_avg_pool2d(self.first(images), 1))
        return deep.expand(-1, -1, *images.shape[-2:])


@pytest.mark.parametrize("looking", [False, True])
@pytest.mark.parametrize(("batch_size", "text"), [(1, "batch_size=1: from"), (7, r"batch_size=7 leaves one of 8")])
def test_a_batch_of_one_that_batchnorm_cannot_take_is_refused(
    make_store, make_module, make_data, tmp_path, looking, batch_size, text
):
    store = make_store(10)
    module, spec = make_module(), TrainerSpec(epochs=1, batch_size=batch_size)
    module.model = Deep(looking)
    module._call = (module.model,)
    steps = []
    module.on_train_batch_start = lambda batch, index: steps.append(index)
    with pytest.raises(UsageError, match=text) as caught:
        train_fold(
            module, make_data(store, batch_size=batch_size), StochasticWeightAveraging(start=1), spec,
            device="cpu", folder=tmp_path, title="", run=Run(),
        )  # fmt: skip
    assert "24x20 pixels" in str(caught.value)
    assert "data.size" in str(caught.value)
    assert bool(steps) == looking  # before anything ran, where shapes can tell


class Rooting(Loss):
    """The root's gradient at 0 is infinite; the product passes it on times 0, which is no number."""

    def of_logits(self, logits, targets, weight):
        return (logits.mean(dim=(1, 2, 3)) * 0).sqrt()


def test_an_anomaly_is_traced_to_its_operation(train):
    with pytest.raises(BonepipeError, match=r"MulBackward0.*optimizer\.lr"):
        train(settings={"detect_anomaly": True}, loss=Rooting())
    with pytest.raises(BonepipeError, match=r"gradient of last\.bias is not finite from step 1 on.*detect_anomaly"):
        train("unwatched", settings={"epochs": 1}, loss=Rooting())


@pytest.mark.parametrize("fraction", [0, -0.5, 1.01])
def test_a_fraction_outside_its_range_is_refused(fraction):
    with pytest.raises(ValueError, match=r"trainer\.fraction"):
        TrainerSpec(epochs=1, batch_size=1, fraction=fraction)


@pytest.mark.parametrize(("name", "count"), [("overfit_batches", 0), ("train_batches", 0), ("val_batches", 0)])
def test_too_few_batches_are_refused(name, count):
    with pytest.raises(ValueError, match=rf"trainer\.{name}={count}"):
        TrainerSpec(epochs=1, batch_size=1, **{name: count})


def test_compiled_training_is_not_in_torchs_deterministic_mode(tmp_path):
    """Inductor's gradients are 0 there, for networks with BatchNorm that end in a bilinear resize."""
    for compiled in (True, False):
        make_trainer(TrainerSpec(epochs=1, batch_size=1, compile=compiled), [], "cpu", tmp_path)
        assert torch.are_deterministic_algorithms_enabled() is not compiled
