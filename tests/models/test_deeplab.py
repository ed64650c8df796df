import torch
from torch.nn import functional

from bonepipe.models.deeplab import deeplab_v1, deeplab_v2


def test_deeplab_v1_sees_at_rate_twelve():
    fc6 = deeplab_v1(3, width=4).network.fully[0]
    assert (fc6.kernel_size, fc6.dilation, fc6.padding) == ((3, 3), (12, 12), (12, 12))


def test_both_encoders_of_deeplab_keep_an_eighth_of_the_resolution():
    images = torch.randn(1, 1, 64, 48)
    with torch.inference_mode():
        assert deeplab_v1(3, width=4).network.encoder(images)[0][-1].shape[-2:] == (8, 6)
        assert deeplab_v2(3, encoder="resnet18").eval().network.encoder(images)[-1].shape[-2:] == (8, 6)


def test_the_pyramid_is_the_sum_of_classifiers_at_the_four_rates():
    torch.manual_seed(0)
    network = deeplab_v2(3, encoder="resnet18").eval().network
    images = torch.randn(1, 1, 64, 64)
    with torch.inference_mode():
        features = network.encoder(images)[-1]
        branches = [
            functional.conv2d(features, layer.weight, layer.bias, padding=rate, dilation=rate)
            for layer, rate in zip(network.pyramid, (6, 12, 18, 24), strict=True)
        ]
        expected = functional.interpolate(sum(branches), scale_factor=8, mode="bilinear", align_corners=False)
        torch.testing.assert_close(network(images), expected, rtol=1e-4, atol=1e-5)


def test_rates_are_a_setting():
    network = deeplab_v2(3, encoder="resnet18", rates=[2, 4]).network
    assert [layer.dilation for layer in network.pyramid] == [(2, 2), (4, 4)]
