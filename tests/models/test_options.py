"""Every file of conf/model: composed, built from scratch, and run where that is quick."""

import pytest
import torch

from bonepipe import config as configs
from bonepipe.models.outputs import Outputs

CLASSES = 7
NAMES = sorted(path.stem for path in configs.conf_dir().glob("model/*.yaml"))


def build(name, device, **settings):
    config = configs.compose([f"model={name}", "~experiment"])
    if "encoder_weights" in config["model"]:
        settings["encoder_weights"] = None
    config["model"] |= settings
    with torch.device(device):
        return configs.build(config, "model", CLASSES)


@pytest.mark.parametrize("name", NAMES)
def test_every_option_builds_answers_at_an_odd_size_and_learns(name):
    """Without values where the constructor allows it: shapes and settings are what this is about."""
    device = "cpu" if name == "smp_segformer" else "meta"  # its constructor reads numbers from tensors
    model = build(name, device).eval()
    with torch.no_grad():
        assert model(torch.zeros(1, 1, 75, 50, device=device)).shape == (1, CLASSES, 75, 50)
    model = model.to(device).train()  # smp makes the first weights for grey images on the CPU
    answer = model(torch.zeros(2, 1, 64, 64, device=device))
    for maps in answer.maps if isinstance(answer, Outputs) else [answer]:
        maps.sum().backward(retain_graph=True)
    assert next(model.parameters()).grad is not None, "what is nearest to the image learns"


@pytest.mark.parametrize("name", ["smp_dpt", "smp_linknet", "smp_pan", "smp_segformer", "mobile_unet"])
def test_options_take_small_images_with_values(name):
    model = build(name, "cpu").eval()
    with torch.inference_mode():
        logits = model(torch.rand(1, 1, 64, 64))
    assert logits.shape == (1, CLASSES, 64, 64)
    assert logits.isfinite().all()


SMP = [name for name in NAMES if name.startswith("smp_")]


@pytest.mark.parametrize("name", SMP)
def test_every_smp_architecture_can_tell_what_is_present(name):
    device = "cpu" if name == "smp_segformer" else "meta"
    model = build(name, device, presence=True)
    images = torch.zeros(2, 1, 75, 50, device=device)
    answer = model.train()(images)
    assert isinstance(answer, Outputs)
    assert [logits.shape for logits in answer.maps] == [(2, CLASSES, 75, 50)]
    assert answer.presence.shape == (2, CLASSES)
    assert model.eval()(images).shape == (2, CLASSES, 75, 50)
