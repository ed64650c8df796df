import pytest
import segmentation_models_pytorch as smp
import torch
from torch import nn

from bonepipe.config import build, compose
from bonepipe.models.deconvnet import deconvnet
from bonepipe.models.factory import Divisible
from bonepipe.models.fcn import fcn
from bonepipe.models.inspect import encoder_of, is_lone_value, learns_from_one
from bonepipe.training import optim
from bonepipe.training.transfer import Transfer


def small(encoder_depth):
    arguments = {"encoder_depth": encoder_depth, "encoder_weights": None, "in_channels": 1, "classes": 2}
    return Divisible(smp.Unet("resnet18", decoder_channels=[8] * encoder_depth, **arguments))


def test_the_encoder_is_the_part_of_that_name():
    model = small(3)
    assert encoder_of(model) is model.network.encoder
    assert encoder_of(model.network) is model.network.encoder
    assert encoder_of(nn.Linear(2, 2)) is None


HIDDEN = {  # fc6 and fc7, and no layer that pretrained weights do not fill
    "fcn8s": ["fully.0", "fully.3"],
    "deeplab_v1": ["fully.0", "fully.3"],
    "dilatednet": ["fully.0", "fully.3"],
    "deconvnet": ["fully.0", "fully.3"],
    "segnet": [],
}


@pytest.mark.parametrize("name", HIDDEN)
def test_fc6_and_fc7_of_vgg_belong_to_the_encoder(name):
    network = build(compose([f"model={name}", "model.width=4", "model.encoder_weights=null"]), "model", 3).network
    parts = [network.encoder, *(network.get_submodule(part) for part in HIDDEN[name])]
    expected = {id(parameter) for part in parts for parameter in part.parameters()}
    assert {id(parameter) for parameter in encoder_of(network).parameters()} == expected


def test_a_frozen_vgg_network_trains_its_scores_alone():
    model = fcn(3, stride=8, width=4).train()
    transfer = Transfer(mode="freeze_then_unfreeze", epochs=1)
    transfer.apply(model, 0)
    free = {name.split(".")[1] for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert free == {"score", "skips", "twice", "last"}
    transfer.apply(model, 1)
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_the_encoders_rate_is_that_of_fc6_and_fc7_too():
    network = deconvnet(3, width=4).network
    slow, fast = (
        {
            id(p)
            for group in optim.parameter_groups(network, 1.0, 0.1, 0.0)
            if group["lr"] == rate
            for p in group["params"]
        }
        for rate in (0.1, 1.0)
    )
    assert {id(network.fully[0].weight), id(network.fully[3].bias)} <= slow
    assert {id(network.fully[1].weight), id(network.fully[6].weight), id(network.head.weight)} <= fast


@pytest.mark.parametrize(
    ("depth", "shape", "fine"), [(5, (32, 32), False), (5, (20, 30), False), (5, (32, 64), True), (3, (32, 32), True)]
)
def test_shapes_tell_whether_one_image_is_enough(depth, shape, fine):
    """As torch itself finds out when such a step is taken."""
    model = small(depth)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    assert learns_from_one(model, shape) == fine
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    if fine:
        model(torch.zeros(1, 1, *shape))
    else:
        with pytest.raises(ValueError, match="more than 1") as caught:
            model(torch.zeros(1, 1, *shape))
        assert is_lone_value(caught.value)


def test_a_layer_in_evaluation_mode_takes_a_single_value():
    model = small(5)
    model.network.encoder.eval()
    assert learns_from_one(model, (32, 32))


def test_networks_that_look_at_values_are_not_refused():
    class Looking(nn.Module):
        def forward(self, images):
            return images * images.mean().item()

    assert learns_from_one(Looking(), (8, 8))
