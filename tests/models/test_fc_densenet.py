import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from bonepipe.models.fc_densenet import DenseBlock, fc_densenet

VARIANTS = {56: ((4,) * 6, 12, 1.4), 67: ((5,) * 6, 16, 3.5), 103: ((4, 5, 7, 10, 12, 15), 16, 9.3)}


def small(**changes):
    torch.manual_seed(0)
    return fc_densenet(3, **{"layers": (2, 3, 2), "growth": 3, "first": 4, **changes})


@pytest.mark.parametrize("name", VARIANTS)
def test_parameters_and_layers_are_the_papers(name):
    """Eleven classes (CamVid); a colour image adds 2 * 9 * 48 weights, a class more one weight a channel of the head.

    The paper rounds generously, to 1.5, 3.5 and 9.4 M; its own tables of layers give 1.4, 3.5 and 9.3 M. The name
    counts the convolutions, those of the transitions among them.
    """
    layers, growth, millions = VARIANTS[name]
    with torch.device("meta"):
        model, wider = (fc_densenet(classes, layers=layers, growth=growth) for classes in (11, 12))
    parameters = sum(p.numel() for p in model.parameters()) + 2 * 9 * 48
    assert parameters == pytest.approx(millions * 1e6, rel=0.02)
    assert round(parameters / 1e6, 1) == millions
    head = model.network.head
    assert sum(p.numel() for p in wider.parameters()) - parameters + 2 * 9 * 48 == head.in_channels + 1
    assert sum(isinstance(m, nn.Conv2d | nn.ConvTranspose2d) for m in model.modules()) == name


def test_channels_of_the_103_layers_are_those_of_table_2():
    with torch.device("meta"):
        network = fc_densenet(11).network
    assert [down[0][0].num_features for down in network.downs] == [112, 192, 304, 464, 656]
    assert network.bottleneck[-1][2].out_channels * 15 + 656 == 896
    outputs = [block[0][0].num_features + 16 * len(block) for block in network.decoder]
    assert outputs == [1088, 816, 576, 384, 256]  # the table's 578 is a slip: 160 + 304 + 7 * 16
    assert network.head.in_channels == 256


@pytest.mark.parametrize("size", [(64, 32), (75, 50)])
def test_logits_of_fc_densenet_have_the_images_size(size):
    model = small()
    assert model(torch.rand(2, 1, *size)).shape == (2, 3, *size)
    with torch.inference_mode():
        assert model.eval()(torch.rand(2, 1, *size)).shape == (2, 3, *size)


def test_a_layer_sees_the_input_and_all_layers_before_it():
    block = DenseBlock(4, 3, 2, dropout=0.0).eval()
    maps = torch.rand(1, 4, 5, 5)
    first = block[0](maps)
    second = block[1](torch.cat([maps, first], 1))
    third = block[2](torch.cat([maps, first, second], 1))
    torch.testing.assert_close(block(maps), torch.cat([first, second, third], 1), rtol=0, atol=0)


def test_every_weight_of_the_tiramisu_learns():
    model = small(dropout=0.0)
    model(torch.rand(2, 1, 32, 32)).square().sum().backward()
    assert not [name for name, p in model.named_parameters() if p.grad is None]


def test_dropout_is_random_in_training_alone():
    model, images = small(dropout=0.5), torch.rand(1, 1, 16, 16)
    with torch.no_grad():
        assert not torch.equal(model(images), model(images))
        model.eval()
        assert torch.equal(model(images), model(images))


def test_tiramisu_goes_through_safetensors_and_export(tmp_path):
    model, other = small().eval(), small(prior=0.3)
    save_file(model.state_dict(), tmp_path / "weights.safetensors")
    other.load_state_dict(load_file(tmp_path / "weights.safetensors"))
    images = torch.rand(1, 1, 32, 48)
    with torch.inference_mode():
        expected = model(images)
        torch.testing.assert_close(other.eval()(images), expected, rtol=0, atol=0)
    torch.testing.assert_close(torch.export.export(model, (images,)).module()(images), expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [({"layers": (4,)}, "two or more blocks"), ({"growth": 0}, "growth"), ({"dropout": 1.0}, "dropout=1.0")],
)
def test_wrong_settings_of_fc_densenet_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        small(**change)
