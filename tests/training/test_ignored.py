"""Pixels that do not count and images that count less, from the batch to the gradient."""

import numpy as np
import pytest
import torch

from bonepipe.labels import bitplane
from bonepipe.training.losses import BinaryCrossEntropy, DiceFocal
from bonepipe.training.mixing import CutMix, MixUp, Part, SnapMix
from bonepipe.training.module import pixel_weights

CLASSES = 2


def batch_of(store, **more):
    planes = torch.from_numpy(np.array(store.planes[:4]))
    return {"image": torch.from_numpy(np.array(store.images[:4])), "planes": planes, **more}


def loss_of(module, batch, part):
    return module._loss(module(module.images(batch)), part)


def gradient(module, batch, share=1.0):
    module.zero_grad()
    loss_of(module, batch, Part(batch["planes"], pixel_weights(batch, CLASSES), share)).backward()
    return torch.cat([p.grad.flatten() for p in module.model.parameters()])


def ignored_planes(batch, seed=0):
    mask = torch.rand(4, CLASSES, *batch["planes"].shape[1:3], generator=torch.Generator().manual_seed(seed)) < 0.4
    return mask, bitplane.pack_torch(mask)


@pytest.mark.parametrize("loss", [BinaryCrossEntropy(), DiceFocal()])
def test_what_is_labelled_where_labels_do_not_count_changes_nothing(make_store, make_module, loss):
    store = make_store(4)
    module, batch = make_module(loss=loss), batch_of(store)
    mask, planes = ignored_planes(batch)
    targets = bitplane.unpack_torch(batch["planes"], CLASSES, torch.bool)
    batch["ignored"] = planes
    before = gradient(module, batch)
    batch["planes"] = bitplane.pack_torch(targets ^ mask)
    torch.testing.assert_close(gradient(module, batch), before, rtol=1e-5, atol=1e-7)
    del batch["ignored"]
    assert (gradient(module, batch) - before).abs().max() > 1e-3


def test_a_class_that_does_not_count_anywhere_teaches_nothing(make_store, make_module):
    store = make_store(4)
    module, batch = make_module(loss=DiceFocal()), batch_of(store)
    mask = torch.zeros(4, CLASSES, *batch["planes"].shape[1:3], dtype=torch.bool)
    mask[:, 1] = True
    batch["ignored"] = bitplane.pack_torch(mask)
    gradient(module, batch)
    assert module.model.last.weight.grad[0].abs().max() > 1e-4
    assert module.model.last.weight.grad[1].abs().max() == 0
    assert torch.isfinite(module.model.last.weight.grad).all()


def test_pixel_weights_of_the_loss_and_ignored_pixels_multiply(make_store):
    batch = batch_of(make_store(4))
    assert pixel_weights(batch, CLASSES) is None
    batch["weight"] = torch.rand(4, 1, *batch["planes"].shape[1:3])
    assert pixel_weights(batch, CLASSES) is batch["weight"]
    mask, batch["ignored"] = ignored_planes(batch)
    expected = batch["weight"] * ~mask
    assert torch.equal(pixel_weights(batch, CLASSES), expected)
    assert expected.shape == (4, CLASSES, *batch["planes"].shape[1:3])


def test_shares_scale_each_images_gradient(make_store, make_module):
    """The mean over samples of share x loss, from the gradients of each sample alone."""
    store = make_store(4)
    module, batch = make_module(loss=DiceFocal()), batch_of(store)
    alone = [gradient(module, {key: value[i : i + 1] for key, value in batch.items()}) for i in range(4)]
    share = torch.tensor([1.0, 0.25, 0.5, 1.0])
    expected = sum(float(s) * g for s, g in zip(share, alone, strict=True)) / 4
    torch.testing.assert_close(gradient(module, batch, share), expected, rtol=1e-4, atol=1e-6)


def test_a_training_step_takes_both_from_the_batch(make_store, make_module, monkeypatch):
    store = make_store(4)
    module, batch = make_module(loss=DiceFocal()), batch_of(store)
    _, batch["ignored"] = ignored_planes(batch)
    batch["share"] = torch.tensor([1.0, 0.25, 0.5, 1.0])
    monkeypatch.setattr(type(module), "current_epoch", 0)
    monkeypatch.setattr(module, "_window_weight", lambda *_: 1.0)
    monkeypatch.setattr(module, "log", lambda *_, **__: None)
    part = Part(batch["planes"], pixel_weights(batch, CLASSES), batch["share"])
    torch.testing.assert_close(module.training_step(batch, 0), loss_of(module, batch, part))


def mixed(mixing, share):
    images = torch.randn(3, 1, 12, 10, generator=torch.Generator().manual_seed(1))
    planes = bitplane.pack_torch(torch.rand(3, CLASSES, 12, 10) < 0.5)
    return mixing(images, Part(planes, None, share), np.random.default_rng(2), lambda x: x.repeat(1, CLASSES, 1, 1))


def test_mixup_and_snapmix_keep_each_images_own_share():
    share = torch.tensor([1.0, 0.25, 0.5])
    for mixing in (MixUp(p=1.0), SnapMix(p=1.0)):
        _, plain = mixed(mixing, 1.0)
        _, parts = mixed(mixing, share)
        torch.testing.assert_close(parts[0].share, plain[0].share * share)
        rolled = [share.roll(shift, 0) for shift in (1, 2)]
        assert sum(torch.allclose(parts[1].share, plain[1].share * other) for other in rolled) == 1


def test_cutmix_mixes_shares_by_area():
    share = torch.tensor([1.0, 0.25, 0.5])
    images = torch.arange(3.0)[:, None, None, None].expand(3, 1, 12, 10)
    planes = bitplane.pack_torch(torch.zeros(3, CLASSES, 12, 10, dtype=torch.bool))
    pasted, (part,) = CutMix(p=1.0)(images, Part(planes, None, share), np.random.default_rng(2), lambda x: x)
    assert len(pasted[0].unique()) == 2
    expected = share[pasted.long()].mean((1, 2, 3))  # every pixel's value tells which image it comes from
    torch.testing.assert_close(part.share, expected)
    _, (plain,) = CutMix(p=1.0)(images, Part(planes), np.random.default_rng(2), lambda x: x)
    assert plain.share == 1
