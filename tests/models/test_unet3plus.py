import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional

from bonepipe.models.outputs import Outputs
from bonepipe.models.unet3plus import FullScaleNode, unet3plus


def small(classes=3, **changes):
    torch.manual_seed(0)
    return unet3plus(classes, **{"width": 2, **changes})


def count(model):
    return sum(parameter.numel() for parameter in model.parameters())


def test_has_as_many_parameters_as_in_the_paper():
    """The paper reports 26.97 M, for one class and an RGB image. Two more input channels are 2 * 9 * 64 weights;
    each further class is four heads of 9 * 320 weights and one of 9 * 1024, and five biases."""
    with torch.device("meta"):
        one, many = count(unet3plus(1)), count(unet3plus(29))
    assert one + 2 * 9 * 64 == pytest.approx(26.97e6, rel=0.002)
    assert many - one == 28 * (9 * (4 * 320 + 1024) + 5)
    assert many == pytest.approx(27.0e6, rel=0.025)  # the heads of 28 more classes alone are 2.1%


@pytest.mark.parametrize("size", [(64, 32), (75, 50)])
def test_evaluation_answers_with_one_map_of_the_images_size(size):
    with torch.inference_mode():
        assert small().eval()(torch.rand(2, 1, *size)).shape == (2, 3, *size)


@pytest.mark.parametrize("size", [(64, 32), (75, 50)])
def test_training_answers_at_five_scales_brought_to_the_images_size(size):
    answer = small()(torch.rand(2, 1, *size))
    assert isinstance(answer, Outputs)
    assert [logits.shape for logits in answer.maps] == [(2, 3, *size)] * 5
    assert answer.presence is None


def test_without_deep_supervision_training_answers_with_one_map():
    assert small(deep_supervision=False)(torch.rand(2, 1, 32, 32)).shape == (2, 3, 32, 32)


def test_a_node_joins_skips_from_all_five_scales():
    """Against section 2.1 spelt out for the second level: pooled, plain and enlarged maps, 64 channels each."""
    torch.manual_seed(0)
    channels, width = [2, 4, 8, 16, 32], 2
    node = FullScaleNode(1, channels, width).eval()
    inputs = [torch.rand(1, c, 32 // 2**level, 32 // 2**level) for level, c in enumerate([2, 4, 10, 10, 32])]
    scaled = [functional.max_pool2d(inputs[0], 2), inputs[1]]
    scaled += [torch.nn.Upsample(scale_factor=2**k, mode="bilinear")(inputs[1 + k]) for k in (1, 2, 3)]
    skips = [skip(maps) for skip, maps in zip(node.skips, scaled, strict=True)]
    with torch.inference_mode():
        expected = node.join(torch.cat(skips, 1))
        torch.testing.assert_close(node(inputs), expected, rtol=0, atol=1e-6)
    assert expected.shape == (1, 5 * width, 16, 16)
    assert [skip[0].out_channels for skip in node.skips] == [width] * 5


def test_every_weight_learns():
    model = small(classification=True)
    answer = model(torch.rand(2, 1, 64, 64))
    (sum(logits.square().sum() for logits in answer.maps) + answer.presence.square().sum()).backward()
    assert not [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]


def test_the_classification_head_silences_absent_classes_in_evaluation_only():
    model = small(classification=True)
    images = torch.rand(2, 1, 48, 40)
    answer = model(images)
    assert answer.presence.shape == (2, 3)
    assert (answer.presence > 0).all()  # an untrained head calls everything present
    with torch.inference_mode():
        before = model.eval()(images)
        model.network.presence[1].bias[1] = -1.0
        after = model(images)
        assert (model.train()(images).maps[0][:, 1] > -19).all()
    assert (after[:, 1].sigmoid() < 1e-8).all()
    torch.testing.assert_close(after[:, [0, 2]], before[:, [0, 2]], rtol=0, atol=0)


@pytest.mark.parametrize("block", ["plain", "dilated", "separable"])
def test_weights_go_through_safetensors_and_the_network_through_export(tmp_path, block):
    model, other = small(block=block).eval(), small(block=block, prior=0.3)
    save_file(model.state_dict(), tmp_path / "weights.safetensors")
    other.load_state_dict(load_file(tmp_path / "weights.safetensors"))
    images = torch.rand(1, 1, 32, 48)
    with torch.inference_mode():
        expected = model(images)
        torch.testing.assert_close(other.eval()(images), expected, rtol=0, atol=0)
    exported = torch.export.export(model, (images,)).module()
    torch.testing.assert_close(exported(images), expected)


@pytest.mark.parametrize(("change", "message"), [({"width": 0}, "width=0"), ({"prior": 1.0}, "prior")])
def test_wrong_settings_of_unet3plus_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        small(**change)
