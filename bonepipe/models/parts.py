"""Blocks that several networks are made of."""

from collections.abc import Callable, Sequence

from torch import nn


def conv_block(inputs: int, outputs: int, *, kernel: int = 3, dilation: int = 1, groups: int = 1) -> nn.Sequential:
    """Convolution, batch normalisation, ReLU; `[N, inputs, h, w]` to `[N, outputs, h, w]` (odd kernels)."""
    padding = dilation * (kernel // 2)
    convolution = nn.Conv2d(inputs, outputs, kernel, padding=padding, dilation=dilation, groups=groups, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


def double_block(inputs: int, outputs: int) -> nn.Sequential:
    """Two convolutions of 3 x 3, as every level of a U-Net has them (Ronneberger et al. 2015, section 2)."""
    return nn.Sequential(conv_block(inputs, outputs), conv_block(outputs, outputs))


def dilated_block(inputs: int, outputs: int, rates: Sequence[int] = (1, 2)) -> nn.Sequential:
    """Convolutions of 3 x 3 whose taps lie `rates` pixels apart (Yu and Koltun 2016, section 2).

    Together they see 1 + 2 * sum(rates) pixels across, at the cost of plain convolutions.
    """
    if not rates or min(rates) < 1:
        raise ValueError(f"rates={list(rates)} must be one or more positive numbers")
    widths = [inputs, *[outputs] * (len(rates) - 1)]
    return nn.Sequential(
        *(conv_block(width, outputs, dilation=rate) for width, rate in zip(widths, rates, strict=True))
    )


def separable_block(inputs: int, outputs: int, *, dilation: int = 1) -> nn.Sequential:
    """A 3 x 3 filter a channel, then a mixture of the channels (MobileNets, Howard et al. 2017, section 3.1)."""
    depthwise = conv_block(inputs, inputs, dilation=dilation, groups=inputs)
    return nn.Sequential(depthwise, conv_block(inputs, outputs, kernel=1))


def double_separable_block(inputs: int, outputs: int) -> nn.Sequential:
    """Two depthwise separable convolutions: about a ninth of the weights of two plain ones."""
    return nn.Sequential(separable_block(inputs, outputs), separable_block(outputs, outputs))


BLOCKS: dict[str, Callable[[int, int], nn.Sequential]] = {
    "plain": double_block,
    "dilated": dilated_block,
    "separable": double_separable_block,
}
