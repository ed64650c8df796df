import copy

import numpy as np
import pytest
import pytorch_lightning as pl
import torch

from bonepipe.labels import bitplane
from bonepipe.models.outputs import Outputs
from bonepipe.training.losses import Boundary, DiceFocal
from bonepipe.training.mixing import CutMix, MixUp, Part, SnapMix, no_mixing, semantic_map

CLASSES = 11
KINDS = (MixUp, CutMix, SnapMix)


def example(samples=3, height=12, width=10):
    """Random images, masks as planes, and pixel weights."""
    generator = torch.Generator().manual_seed(4)
    images = torch.randn(samples, 1, height, width, generator=generator)
    mask = torch.rand(samples, CLASSES, height, width, generator=generator) < 0.3
    return images, Part(bitplane.pack_torch(mask), torch.rand(samples, 1, height, width, generator=generator))


def logits_of(images):
    """A network of no weights: each class sees another brightness."""
    return torch.cat([images * 2 - c / 4 for c in range(CLASSES)], 1)


def mix(mixing, seed, batch=None):
    return mixing(*(batch or example()), np.random.default_rng(seed), logits_of)


def shift_of(pasted, images):
    """By how many places the partners are rolled, read off the pixels of a box pasted as it is."""
    for shift in range(1, len(images)):
        if ((pasted == images) | (pasted == images.roll(shift, 0))).all():
            return shift
    raise AssertionError("the pixels come from no single partner")


@pytest.mark.parametrize("seed", range(5))
def test_mixup_blends_images_and_losses_in_one_ratio(seed):
    images, part = example()
    blend, (own, other) = mix(MixUp(p=1.0), seed)
    ratio = own.share
    assert 0 <= ratio <= 1
    assert own.share + other.share == 1
    shifts = [s for s in (1, 2) if torch.allclose(blend, ratio * images + (1 - ratio) * images.roll(s, 0))]
    assert len(shifts) == 1
    assert torch.equal(own.planes, part.planes)
    assert torch.equal(other.planes, part.planes.roll(shifts[0], 0))
    assert torch.equal(own.weight, part.weight)
    assert torch.equal(other.weight, part.weight.roll(shifts[0], 0))


@pytest.mark.parametrize("kind", [CutMix, SnapMix])
def test_sub_pixels_are_pasted_with_their_pixel(kind):
    images, part = example()
    fine = part._replace(planes=part.planes.repeat(1, 1, 1, 4))  # four equal sub-pixels
    (pasted, plain), (again, mixed) = mix(kind(p=1.0), 3), mix(kind(p=1.0), 3, (images, fine))
    assert torch.equal(pasted, again)
    for before, after in zip(plain, mixed, strict=True):
        expected = bitplane.unpack_torch(before.planes, CLASSES)
        assert torch.equal(bitplane.coverage_torch(after.planes, CLASSES), expected)


def test_mixups_ratio_is_drawn_from_the_beta_distribution():
    ratios = [mix(MixUp(p=1.0, alpha=0.5), seed)[1][0].share for seed in range(800)]
    assert np.mean(ratios) == pytest.approx(0.5, abs=0.05)
    assert np.var(ratios) == pytest.approx(1 / 8, abs=0.015)  # of Beta(a, a): 1 / (4 (2a + 1))


@pytest.mark.parametrize("seed", range(8))
def test_cutmix_takes_every_pixel_and_its_labels_from_exactly_one_image(seed):
    images, part = example()
    pasted, (only,) = mix(CutMix(p=1.0), seed)
    assert only.share == 1
    if torch.equal(pasted, images):  # an empty box
        assert torch.equal(only.planes, part.planes)
        return
    shift = shift_of(pasted, images)
    inside = (pasted == images.roll(shift, 0))[:, 0]
    assert torch.equal(inside[0], inside[1])
    rows, columns = inside[0].any(1).nonzero(), inside[0].any(0).nonzero()
    assert inside[0].sum() == (rows.max() - rows.min() + 1) * (columns.max() - columns.min() + 1)  # a box
    assert torch.equal(only.planes, torch.where(inside[..., None], part.planes.roll(shift, 0), part.planes))
    assert torch.equal(only.weight, torch.where(inside[:, None], part.weight.roll(shift, 0), part.weight))


def test_cutmix_boxes_have_the_share_of_one_minus_beta_before_they_are_clipped():
    images, part = example(2, 40, 60)
    shares = []
    for seed in range(400):
        pasted, _ = CutMix(p=1.0, alpha=5000.0)(images, part, np.random.default_rng(seed), logits_of)
        shares.append((pasted != images).float().mean().item())
    assert max(shares) == pytest.approx(0.5, abs=0.06)  # boxes that lie inside the image
    assert min(shares) < 0.2  # boxes clipped at a corner
    # A side of sqrt(1/2) around a uniform middle keeps 1 - side / 4 of its length on average, each way.
    assert np.mean(shares) == pytest.approx(0.5 * (1 - np.sqrt(0.5) / 4) ** 2, abs=0.02)


def slow_snapmix(images, part, pasted, planes, inside, shift, source):
    """Check the pasted box pixel by pixel against the nearest labels of the partner's box."""
    rows, columns = (np.flatnonzero(inside.any(axis)) for axis in (1, 0))
    top, left, height, width = source
    for i, row in enumerate(rows):
        for j, column in enumerate(columns):
            y = top + int((i + 0.5) * height / len(rows))
            x = left + int((j + 0.5) * width / len(columns))
            assert torch.equal(planes[:, row, column], part.planes.roll(shift, 0)[:, y, x])
    outside = ~torch.from_numpy(inside)
    assert torch.equal(pasted[:, :, outside], images[:, :, outside])
    assert torch.equal(planes[:, outside], part.planes[:, outside])


@pytest.mark.parametrize("seed", range(6))
def test_snapmix_pastes_a_resized_box_and_weighs_both_parts_by_their_activation(seed, monkeypatch):
    from bonepipe.training import mixing

    boxes, draw = [], mixing._draw_box
    monkeypatch.setattr(mixing, "_draw_box", lambda *a: boxes.append(draw(*a)) or boxes[-1])
    images, part = example()
    pasted, (own, other) = mix(SnapMix(p=1.0), seed)
    target, source = boxes
    assert target != source
    inside = np.zeros(images.shape[-2:], bool)
    inside[target.slices] = True
    shift = next(s for s in (1, 2) if own_share_matches(part, images, own, other, target, source, s))
    slow_snapmix(
        images, part, pasted, own.planes, inside, shift, (source.top, source.left, source.height, source.width)
    )
    assert torch.equal(own.planes, other.planes)
    assert ((own.weight > 0) != (other.weight > 0)).all()  # each pixel belongs to one part
    np.testing.assert_array_equal((other.weight > 0)[0, 0].numpy(), inside)
    torch.testing.assert_close(own.weight[..., ~torch.from_numpy(inside)], part.weight[..., ~torch.from_numpy(inside)])


def own_share_matches(part, images, own, other, target, source, shift):
    """Shares by hand: activation mass outside the box of the image, and inside the partner's box."""
    probabilities = logits_of(images).sigmoid()
    occurs = bitplane.unpack_torch(part.planes, CLASSES).amax((2, 3))
    semantic = torch.einsum("nchw,nc->nhw", probabilities, occurs)
    semantic = semantic / semantic.sum((1, 2), keepdim=True)
    partners = semantic.roll(shift, 0)[:, source.top : source.bottom, source.left : source.right].sum((1, 2))
    mine = 1 - semantic[:, target.top : target.bottom, target.left : target.right].sum((1, 2))
    torch.testing.assert_close(own.share, mine)
    return torch.allclose(other.share, partners)


def test_the_semantic_map_looks_at_the_classes_that_occur():
    logits = torch.zeros(2, 2, 2, 2)
    logits[:, 0, 0, 0], logits[:, 1, 1, 1] = 30, 30
    logits -= 15
    planes = torch.zeros(2, 2, 2, 1, dtype=torch.uint8)
    planes[0, 0, 1] = 2  # the second class occurs in the first image, none in the second
    semantic = semantic_map(logits, planes)
    assert semantic[0, 1, 1] == pytest.approx(1, abs=1e-5)
    torch.testing.assert_close(semantic[1], torch.full((2, 2), 0.25))


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_of_one_is_left_alone(kind):
    batch = example(1)
    images, (part,) = mix(kind(p=1.0), 0, batch)
    assert images is batch[0]
    assert part is batch[1]


@pytest.mark.parametrize("kind", KINDS)
def test_batches_are_mixed_with_the_given_probability_and_the_generator_alone_decides(kind):
    images, _ = example()
    mixed = [not torch.equal(mix(kind(p=0.3), seed)[0], images) for seed in range(300)]
    assert np.mean(mixed) == pytest.approx(0.3, abs=0.08)
    first, second = mix(kind(p=1.0), 5), mix(kind(p=1.0), 5)
    assert torch.equal(first[0], second[0])
    assert not torch.equal(first[0], mix(kind(p=1.0), 6)[0])


@pytest.mark.parametrize("kind", KINDS)
def test_the_batch_itself_is_not_changed(kind):
    images, part = example()
    before = images.clone(), part.planes.clone(), part.weight.clone()
    mix(kind(p=1.0), 1, (images, part))
    assert all(torch.equal(a, b) for a, b in zip(before, (images, part.planes, part.weight), strict=True))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("settings", "field"), [({"alpha": 0}, "alpha"), ({"p": 1.5}, "p=1.5"), ({"p": -1}, "p=-1")])
def test_impossible_mixing_settings_are_refused(kind, settings, field):
    with pytest.raises(ValueError, match=field):
        kind(**settings)


class Talkative(torch.nn.Module):
    """A network with a side output and a presence head while it is trained."""

    def __init__(self):
        super().__init__()
        self.main, self.side = torch.nn.Conv2d(1, 2, 3, padding=1), torch.nn.Conv2d(1, 2, 1)

    def forward(self, images):
        maps = self.main(images), self.side(images)
        return Outputs(maps, maps[1].mean((2, 3))) if self.training else maps[0]


def fit(module, data, epochs=2):
    trainer = pl.Trainer(
        accelerator="cpu", max_epochs=epochs, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, use_distributed_sampler=False, num_sanity_val_steps=0,
    )  # fmt: skip
    trainer.fit(module, data.train_dataloader(), data.val_dataloader())
    return module.model.state_dict()


@pytest.mark.parametrize("kind", KINDS)
def test_with_probability_zero_training_is_that_without_mixing(make_store, make_module, make_data, same_weights, kind):
    store = make_store(8)
    runs = [fit(make_module(mixing=mixing, dropout=0.5), make_data(store)) for mixing in (no_mixing(), kind(p=0.0))]
    assert same_weights(*runs)


@pytest.mark.parametrize("kind", KINDS)
def test_a_module_trains_with_mixing_weights_and_side_outputs(make_store, make_module, make_data, same_weights, kind):
    store = make_store(9)
    loss = DiceFocal(boundary=Boundary(weight=5, sigma=2))
    runs = []
    for mixing in (kind(p=1.0), kind(p=1.0), no_mixing()):
        torch.manual_seed(0)
        module = make_module(mixing=mixing, loss=loss, model=Talkative())
        before = copy.deepcopy(module.model.state_dict())
        runs.append(fit(module, make_data(store, batch_size=3, weights=loss.pixel_weights(2))))
        assert all(torch.isfinite(value).all() for value in runs[-1].values())
        assert not any(torch.equal(before[key], value) for key, value in runs[-1].items())
    assert same_weights(runs[0], runs[1])
    assert not same_weights(runs[0], runs[2])


@pytest.mark.parametrize("kind", [*KINDS, None])
def test_the_training_loss_equals_the_mixtures_definition(make_store, make_module, make_data, kind):
    store = make_store(4)
    loss = DiceFocal(boundary=Boundary(weight=5, sigma=2))
    mixing = kind(p=1.0) if kind else no_mixing()
    data = make_data(store, batch_size=4, held_out=0, weights=loss.pixel_weights(2))
    module = make_module(mixing=mixing, loss=loss, lr=0.0)
    batch = next(iter(data.train_dataloader()))
    images = module.images(batch)
    rng = np.random.default_rng((module.seed, 0, 0))
    images, parts = mixing(images, Part(batch["planes"], batch["weight"]), rng, module.model)
    expected = 0.0
    for part in parts:
        targets = bitplane.unpack_torch(part.planes, 2)
        shares = torch.as_tensor(part.share).expand(4).tolist()
        for i, share in enumerate(shares):
            weight = part.weight.expand(4, -1, -1, -1)[i : i + 1]
            expected += share / 4 * loss(module.model(images[i : i + 1]), targets[i : i + 1], weight).item()
    trainer = pl.Trainer(
        accelerator="cpu", max_epochs=1, limit_val_batches=0, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, use_distributed_sampler=False,
    )  # fmt: skip
    trainer.fit(module, data.train_dataloader())
    assert float(trainer.callback_metrics["train/loss"]) == pytest.approx(expected, rel=1e-5)
