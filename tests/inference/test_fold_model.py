from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from bonepipe.data.spec import DataSpec
from bonepipe.errors import BonepipeError
from bonepipe.inference.fold_model import FoldModel, load_fold_model, mean_probabilities
from bonepipe.inference.tta import Views
from bonepipe.labels import upsample
from bonepipe.training.weights_file import read_weights, save_weights

CLASSES = ("left", "middle", "right")
SPEC = DataSpec(name="x", root="nowhere", classes=CLASSES, size=32, swaps={"horizontal": [("left", "right")]})
MEAN, STD = 0.3, 0.2
FACTS = {"classes": list(CLASSES), "augmentations": ["Affine", "HorizontalFlip"]}


def network(seed=0, width=4):
    torch.manual_seed(seed)
    layers = [nn.Conv2d(1, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(), nn.Conv2d(width, 3, 3, padding=1)]
    model = nn.Sequential(*layers)
    model[1].running_mean.uniform_()
    return model


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "weights.safetensors"
    save_weights(network(), path, FACTS)
    return path


def test_weights_survive_the_round_trip(saved):
    member = load_fold_model(saved, network(1), CLASSES, "cpu")
    images = torch.rand(2, 1, 16, 12)
    torch.testing.assert_close(member.model(images), network().eval()(images), rtol=1e-5, atol=1e-6)
    assert not member.model.training
    assert member.seen == {"HorizontalFlip": [], "Scale": []}
    assert member.path == saved
    tensors, facts = read_weights(saved)
    assert facts == FACTS
    assert all(torch.equal(tensors[key], value) for key, value in network().state_dict().items())


def test_a_compiled_member_answers_like_a_plain_one(saved, monkeypatch):
    # The graph is captured as ever; only the C++ compiler, which not every machine has, is left out.
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))
    images = torch.rand(2, 1, 16, 12)
    plain, compiled = (load_fold_model(saved, network(1), CLASSES, "cpu", compiled=on) for on in (False, True))
    assert compiled.model is not plain.model
    torch.testing.assert_close(compiled.model(images), plain.model(images))


def test_half_precision_moves_the_mean_a_little_and_keeps_float32(saved):
    member, views = load_fold_model(saved, network(1), CLASSES, "cpu"), Views(SPEC)
    images = torch.randint(0, 256, (2, 16, 12), dtype=torch.uint8)
    full, half = (mean_probabilities([member], views, images, MEAN, STD, name) for name in ("32", "bf16"))
    assert half.dtype == torch.float32
    assert 0 < (full - half).abs().max() < 0.02


def test_weights_without_facts_are_taken_as_they_are(tmp_path):
    save_file(network().state_dict(), tmp_path / "plain.safetensors")
    assert load_fold_model(tmp_path / "plain.safetensors", network(1), CLASSES, "cpu").seen == {}


def test_what_the_recipe_showed_goes_before_its_names(tmp_path):
    seen = {"HorizontalFlip": [], "Scale": [0.9, 1.1]}
    save_weights(network(), tmp_path / "new.safetensors", {**FACTS, "seen": seen})
    assert load_fold_model(tmp_path / "new.safetensors", network(1), CLASSES, "cpu").seen == seen


@pytest.mark.parametrize(
    ("model", "difference"),
    [
        (network(width=5), r"0\.weight has shape \[4, 1, 3, 3\], expected \[5, 1, 3, 3\]"),
        (nn.Sequential(*network(), nn.Conv2d(3, 3, 1)), r"4\.weight is missing"),
        (network()[:3], r"3\.(weight|bias) is unexpected"),
    ],
)
def test_weights_of_another_model_are_named(saved, model, difference):
    with pytest.raises(
        BonepipeError, match=rf"weights\.safetensors: holds the weights of another model \({difference}"
    ):
        load_fold_model(saved, model, CLASSES, "cpu")


def test_weights_for_other_classes_are_named(saved):
    with pytest.raises(BonepipeError, match=r"weights\.safetensors: was trained for other classes \(left, middle"):
        load_fold_model(saved, network(), ("left", "right", "middle"), "cpu")


@pytest.mark.parametrize("content", [b"", b"garbage" * 10, b"\xff" * 64, None, "cut"])
def test_files_that_are_no_weights_are_named(saved, content):
    if content is None:
        saved.unlink()
    else:
        saved.write_bytes(saved.read_bytes()[:-10] if content == "cut" else content)
    with pytest.raises(BonepipeError, match=r"weights\.safetensors: cannot be read as safetensors"):
        load_fold_model(saved, network(), CLASSES, "cpu")


def test_facts_that_are_not_json_are_named(tmp_path):
    save_file(network().state_dict(), tmp_path / "w.safetensors", {"bonepipe": "left, right"})
    with pytest.raises(BonepipeError, match=r"w\.safetensors"):
        read_weights(tmp_path / "w.safetensors")


def grey(size=(20, 24), count=2):
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (count, *size), dtype=np.uint8))


def members(count):
    return [FoldModel(Path("w"), network(seed).eval(), {}) for seed in range(count)]


def slow_views(model, images):
    """Probabilities of the plain image, the upside-down one and the two mirrored ones, brought back by hand."""
    batch = ((images.numpy() / 255 - MEAN) / STD).astype(np.float32)[:, None]
    for vertical in (False, True):
        for horizontal in (False, True):
            view = np.ascontiguousarray(batch[:, :, :: -1 if vertical else 1, :: -1 if horizontal else 1])
            with torch.inference_mode():
                maps = model(torch.from_numpy(view)).sigmoid().numpy()
            maps = maps[:, :, :: -1 if vertical else 1, :: -1 if horizontal else 1]
            yield np.ascontiguousarray(maps[:, [2, 1, 0]] if horizontal else maps)


@pytest.mark.parametrize("shape", [(60, 72), (33, 50), (15, 10)])
def test_averaging_then_upsampling_equals_upsampling_then_averaging(shape):
    views = Views(SPEC, transforms=[{"name": "VerticalFlip"}, {"name": "HorizontalFlip"}])
    crowd, images = members(3), grey()
    mean = mean_probabilities(crowd, views, images, MEAN, STD, "32").numpy()
    assert mean.shape == (2, 3, 20, 24)
    large = [[upsample.upsample(map_, shape) for map_ in maps] for maps in mean]
    every = np.array(
        [
            [[upsample.upsample(map_, shape) for map_ in maps] for maps in batch]
            for member in crowd
            for batch in slow_views(member.model, images)
        ]
    )
    assert every.shape == (12, 2, 3, *shape)
    np.testing.assert_allclose(large, every.mean(0), rtol=0, atol=1e-6)
    assert np.abs(every[0] - every.mean(0)).max() > 0.01


def test_view_weights_count():
    views = Views(SPEC, transforms=[{"name": "HorizontalFlip"}], weights=[3, 1])
    (member,), images = members(1), grey()
    plain, mirrored, *_ = slow_views(member.model, images)
    first = next(iter(views))[1](torch.arange(2.0).view(1, 1, 1, 2)).flatten().tolist()
    shares = (0.75, 0.25) if first == [0, 1] else (0.25, 0.75)
    mean = mean_probabilities([member], views, images, MEAN, STD, "32")
    np.testing.assert_allclose(mean, shares[0] * plain + shares[1] * mirrored, rtol=0, atol=1e-6)


def test_scaled_views_fit_whatever_the_size():
    views = Views(SPEC, transforms=[{"name": "Scale", "scales": [1, 1.1, 0.7]}], force=True)
    mean = mean_probabilities(members(2), views, grey((33, 47)), MEAN, STD, "32")
    assert mean.shape == (2, 3, 33, 47)
    plain = mean_probabilities(members(2), Views(SPEC), grey((33, 47)), MEAN, STD, "32")
    assert 0 < (mean - plain).abs().mean() < 0.1


def test_weights_that_are_not_finite_are_refused_by_name(tmp_path):
    model = network()
    model[3].bias.data[1] = torch.nan
    save_file(model.state_dict(), tmp_path / "broken.safetensors")
    with pytest.raises(BonepipeError, match=r"broken\.safetensors: 3\.bias holds numbers that are not finite"):
        load_fold_model(tmp_path / "broken.safetensors", network(1), CLASSES, "cpu")


class Overflowing(nn.Module):
    """Finite weights, and an answer that is not, as half precision may give."""

    def __init__(self):
        super().__init__()
        self.inner = network()

    def forward(self, images):
        return self.inner(images) * torch.tensor([1.0, torch.nan, 1.0]).view(1, 3, 1, 1)


def test_a_member_whose_answer_is_not_finite_is_named_among_the_others():
    crowd, views = members(3), Views(SPEC, transforms=[{"name": "HorizontalFlip"}])
    assert len(views) == 2
    crowd[1] = FoldModel(Path("run/fold-1/weights.safetensors"), Overflowing().eval(), {})
    with pytest.raises(BonepipeError, match=r"run/fold-1/weights\.safetensors: predicts numbers that are not finite"):
        mean_probabilities(crowd, views, grey(), MEAN, STD)


def test_members_may_be_any_iterable_and_give_no_gradients():
    mean = mean_probabilities(iter(members(2)), Views(SPEC), grey(), MEAN, STD)
    assert not mean.requires_grad
    assert mean.dtype == torch.float32
