"""What holds for every network of the VGG family and for U-Net, at small width where it is run."""

import functools
import math

import pytest
import torch
from safetensors.torch import load_file, save_file

from bonepipe.config import build, compose
from bonepipe.models.deconvnet import deconvnet
from bonepipe.models.deeplab import deeplab_v1, deeplab_v2
from bonepipe.models.dilatednet import dilatednet
from bonepipe.models.fcn import fcn
from bonepipe.models.segnet import segnet
from bonepipe.models.unet import unet

SMALL = {
    "fcn32s": functools.partial(fcn, stride=32, width=4),
    "fcn16s": functools.partial(fcn, stride=16, width=4),
    "fcn8s": functools.partial(fcn, stride=8, width=4),
    "deconvnet": functools.partial(deconvnet, width=4),
    "segnet": functools.partial(segnet, width=4),
    "unet": functools.partial(unet, width=4),
    "unet_batch_norm": functools.partial(unet, width=4, batch_norm=True),
    "dilatednet": functools.partial(dilatednet, width=4),
    "dilatednet_large": functools.partial(dilatednet, width=4, context="large"),
    "dilatednet_none": functools.partial(dilatednet, width=4, context="none"),
    "deeplab_v1": functools.partial(deeplab_v1, width=4),
    "deeplab_v2": functools.partial(deeplab_v2, encoder="resnet18"),
}

# Counts in millions as the papers (or, for DeepLab v2 and DilatedNet, sums over their tables) have them, with how many
# parameters an additional class costs, the paper's classes, and the first layer's weights for the two colours that
# are missing here. A class costs its filters and bias in the layers that make scores, and its upsampling kernels.
COLOURS = 2 * 64 * 9
PAPER = {
    "fcn32s": (134.0, 4096 + 1 + 64**2, 21, COLOURS),  # table 1
    "fcn16s": (134.0, 4096 + 1 + 512 + 1 + 4**2 + 32**2, 21, COLOURS),
    "fcn8s": (134.0, 4096 + 1 + 512 + 1 + 256 + 1 + 2 * 4**2 + 16**2, 21, COLOURS),
    "deconvnet": (252.0, 64 + 1, 21, COLOURS),  # section 4.1
    "segnet": (29.45, 64 * 9 + 1, 11, COLOURS),  # table 6
    "unet": (31.03, 64 + 1, 2, 0),  # figure 1, which is grey already
    "deeplab_v1": (20.5, 1024 + 1, 21, COLOURS),  # table 2
    "deeplab_v2": (42.50 + 1.55, 4 * (2048 * 9 + 1), 21, 2 * 64 * 49),  # ResNet-101 without its classifier, and ASPP
    "dilatednet": (134.35 + 64 * 21**2 / 1e6, 4096 + 1 + 64 * (29 + 21), 21, COLOURS),  # section 4; 64 C^2 of section 3
}


every_network = pytest.mark.parametrize("name", SMALL)


def small(name, seed=0):
    torch.manual_seed(seed)
    return SMALL[name](5)


@pytest.mark.parametrize("name", PAPER)
def test_the_config_builds_a_network_of_the_papers_size(name):
    config = compose([f"model={name}"])  # as the demo has it, from scratch
    assert config["model"]["encoder_weights"] is None
    with torch.device("meta"):
        count = sum(parameter.numel() for parameter in build(config, "model", 29).parameters())
    millions, per_class, classes, colours = PAPER[name]
    assert count == pytest.approx(millions * 1e6 + (29 - classes) * per_class - colours, rel=0.02)


@every_network
@pytest.mark.parametrize("size", [(64, 64), (70, 45)])
def test_vgg_networks_take_any_size(name, size):
    model = small(name).eval()
    with torch.inference_mode():
        logits = model(torch.randn(2, 1, *size))
    assert logits.shape == (2, 5, *size)
    assert logits.isfinite().all()


@every_network
def test_untrained_vgg_networks_answer_around_the_prior(name):
    model = small(name).eval()
    with torch.inference_mode():
        logits = model(torch.randn(2, 1, 64, 64))
    assert logits.median().item() == pytest.approx(math.log(0.01 / 0.99), abs=1)


@every_network
def test_vgg_networks_survive_safetensors(name, tmp_path):
    model, twin, images = small(name), small(name, seed=1).eval(), torch.randn(2, 1, 64, 64)
    model(images)  # running statistics that are not those of a new network
    model.eval()
    save_file(model.state_dict(), tmp_path / "weights.safetensors")
    with torch.inference_mode():
        assert not torch.equal(model(images), twin(images))
        twin.load_state_dict(load_file(tmp_path / "weights.safetensors"))
        torch.testing.assert_close(model(images), twin(images), rtol=0, atol=0)


@every_network
def test_a_step_changes_every_parameter_of_a_vgg_network(name):
    model, images = small(name).train(), torch.randn(4, 1, 64, 64)
    before = [parameter.detach().clone() for parameter in model.parameters()]
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    torch.nn.functional.softplus(model(images)).mean().backward()
    optimizer.step()
    same = [key for (key, now), old in zip(model.named_parameters(), before, strict=True) if torch.equal(now, old)]
    assert not same


@every_network
def test_an_exported_vgg_network_answers_the_same(name):
    """torch.export takes all of them; TorchScript, which is deprecated in its favour, is not attempted."""
    model, images = small(name).eval(), torch.randn(1, 1, 70, 45)
    program = torch.export.export(model, (images,))
    with torch.inference_mode():
        torch.testing.assert_close(program.module()(images), model(images), rtol=1e-5, atol=1e-5)


@every_network
def test_vgg_networks_look_in_both_memory_layouts_alike(name):
    """Training uses channels last, where a switch must still mean the same place."""
    model, images = small(name).eval(), torch.randn(2, 1, 64, 64)
    with torch.inference_mode():
        expected = model(images)
        model.to(memory_format=torch.channels_last)
        logits = model(images.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("build_it", "message"),
    [
        (lambda: segnet(5, width=0), "width=0"),
        (lambda: unet(5, width=0), "width=0"),
        (lambda: fcn(5, width=4, dropout=1.5), "dropout"),
        (lambda: deeplab_v2(5, rates=[]), "rates"),
        (lambda: deeplab_v2(5, encoder="resnet110"), "did you mean 'resnet101'"),
        (lambda: deeplab_v2(5, encoder="resnet18", encoder_weights="imagnet"), "no weights 'imagnet'"),
        (lambda: deeplab_v2(5, encoder="vgg16"), "vgg16"),
        (lambda: segnet(5, width=4, encoder_weights="imagnet"), "did you mean 'imagenet'"),
        (lambda: segnet(5, width=4, encoder_weights="imagenet"), "width=64"),
        (lambda: unet(5, width=4, prior=0.0), "prior"),
    ],
)
def test_a_wrong_setting_of_a_vgg_network_is_named(build_it, message):
    with pytest.raises(ValueError, match=message):
        build_it()
