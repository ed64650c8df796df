import pytest
import segmentation_models_pytorch as smp
import torch
from torch import nn

from bonepipe.models.factory import Divisible
from bonepipe.models.inspect import encoder_of, is_lone_value, learns_from_one


def small(encoder_depth):
    arguments = {"encoder_depth": encoder_depth, "encoder_weights": None, "in_channels": 1, "classes": 2}
    return Divisible(smp.Unet("resnet18", decoder_channels=[8] * encoder_depth, **arguments))


def test_the_encoder_is_the_part_of_that_name():
    model = small(3)
    assert encoder_of(model) is model.network.encoder
    assert encoder_of(model.network) is model.network.encoder
    assert encoder_of(nn.Linear(2, 2)) is None


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
