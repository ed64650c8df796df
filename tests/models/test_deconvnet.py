import pytest
import torch

from bonepipe.models.deconvnet import deconvnet, deconvolution


@pytest.mark.parametrize("kernel", [3, 7])
def test_a_deconvolution_is_the_gradient_of_a_convolution(kernel):
    """What makes it transposed: it maps as the convolution with the same weights sends gradients back."""
    torch.manual_seed(0)
    layer = deconvolution(3, 4, kernel)[0]
    images, features = torch.randn(1, 4, 9, 8, requires_grad=True), torch.randn(1, 3, 9, 8)
    torch.nn.functional.conv2d(images, layer.weight, padding=kernel // 2).backward(features)
    torch.testing.assert_close(layer(features), images.grad, rtol=1e-4, atol=1e-5)


def test_deconvnet_mirrors_table_1():
    with torch.device("meta"):
        network = deconvnet(21).network
    layers = [m for m in network.modules() if isinstance(m, torch.nn.ConvTranspose2d)]
    assert [m.out_channels for m in layers] == [512, *[512] * 3, 512, 512, 256, 256, 256, 128, 128, 64, 64, 64]
    assert layers[0].weight.shape == (4096, 512, 7, 7)
