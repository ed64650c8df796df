import pytest
import torch

from bonepipe.models.presence import PresenceNet


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    return PresenceNet(3, "resnet18").eval()


@torch.no_grad()
def test_the_logit_is_the_linear_layer_of_the_mean_features(net):
    images = torch.randn(2, 1, 64, 96)
    features = net.encoder(images)[-1]
    assert features.shape == (2, 512, 8, 12)
    expected = features.mean((2, 3)) @ net.classifier.weight[:, :, 0, 0].T + net.classifier.bias
    torch.testing.assert_close(net(images), expected, atol=1e-5, rtol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize(("stride", "shape"), [(8, (9, 13)), (16, (5, 7)), (32, (3, 4))])
def test_maps_have_the_stride_that_is_asked_for_and_take_any_size(stride, shape):
    net = PresenceNet(3, "resnet18", stride=stride).eval()
    assert net.maps(torch.randn(1, 1, 70, 100)).shape == (1, 3, *shape)
    assert net(torch.randn(1, 1, 70, 100)).shape == (1, 3)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"encoder": "resnet81"}, "unknown encoder 'resnet81'; did you mean 'resnet"),
        ({"encoder": "resnet18", "stride": 4}, "stride=4: one of 8, 16, 32"),
        ({"encoder": "resnet18", "encoder_weights": "imagnet"}, "has no weights 'imagnet'"),
    ],
)
def test_a_classifier_that_there_is_not_is_refused(arguments, reason):
    with pytest.raises(ValueError, match=reason):
        PresenceNet(3, **arguments)
