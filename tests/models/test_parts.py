import pytest
import torch

from bonepipe.models import parts


def receptive_field(block):
    """Pixels across that one output depends on, by its gradient."""
    images = torch.zeros(1, 3, 33, 33, requires_grad=True)
    block.eval()
    for module in block.modules():
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.ones_(module.weight)
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.ones_(module.bias)  # keeps every ReLU open
    block(images)[0, 0, 16, 16].backward()
    return int((images.grad[0, 0, 16] != 0).nonzero().diff(dim=0).sum()) + 1


@pytest.mark.parametrize("rates", [(1,), (1, 2), (1, 2, 4), (3,)])
def test_dilated_convolutions_reach_as_far_as_their_rates_say(rates):
    assert receptive_field(parts.dilated_block(3, 4, rates)) == 1 + 2 * sum(rates)


def test_dilated_taps_leave_pixels_out_between_them():
    block = parts.conv_block(1, 1, dilation=3).eval()
    images = torch.zeros(1, 1, 9, 9, requires_grad=True)
    torch.nn.init.ones_(block[0].weight)
    torch.nn.init.ones_(block[1].bias)
    block(images)[0, 0, 4, 4].backward()
    assert images.grad[0, 0].nonzero().tolist() == [[r, c] for r in (1, 4, 7) for c in (1, 4, 7)]


def test_a_separable_convolution_is_a_filter_a_channel_and_a_mixture():
    block = parts.separable_block(6, 10)
    depthwise, pointwise = (m for m in block.modules() if isinstance(m, torch.nn.Conv2d))
    assert depthwise.weight.numel() + pointwise.weight.numel() == 6 * 9 + 6 * 10  # a plain one has 6 * 9 * 10
    images = torch.zeros(1, 6, 5, 5)
    changed = images.clone()
    changed[:, 2] = torch.rand(5, 5)
    assert (depthwise(images) != depthwise(changed)).any((0, 2, 3)).nonzero().flatten().tolist() == [2]


@pytest.mark.parametrize("name", parts.BLOCKS)
def test_blocks_keep_the_size_and_see_the_same_or_more(name):
    block = parts.BLOCKS[name](3, 8)
    assert block(torch.rand(2, 3, 7, 10)).shape == (2, 8, 7, 10)
    assert receptive_field(block) == {"plain": 5, "dilated": 7, "separable": 5}[name]


@pytest.mark.parametrize("rates", [(), (1, 0)])
def test_rates_are_positive(rates):
    with pytest.raises(ValueError, match="rates"):
        parts.dilated_block(1, 1, rates)
