import pytest
import torch

from bonepipe.models.unet import unet


def test_unet_has_the_papers_widths():
    with torch.device("meta"):
        network = unet(2).network
    convolutions = [m for m in network.modules() if isinstance(m, torch.nn.Conv2d)]
    assert [m.out_channels for m in convolutions[:10]] == [64, 64, 128, 128, 256, 256, 512, 512, 1024, 1024]
    assert [(m.in_channels, m.out_channels) for m in convolutions[10::2]] == [
        (1024, 512), (512, 256), (256, 128), (128, 64), (64, 2)
    ]  # fmt: skip
    assert sum(isinstance(m, torch.nn.Conv2d | torch.nn.ConvTranspose2d) for m in network.modules()) == 23  # section 2


@pytest.mark.parametrize("level", range(4))
def test_every_level_of_unet_has_its_skip(level):
    """Without the upsampled half, the first answer can only come through the skip."""
    torch.manual_seed(0)
    network = unet(2, width=4).eval().network
    images = torch.randn(1, 1, 64, 64)
    for up in network.up:
        torch.nn.init.zeros_(up.weight)
        torch.nn.init.zeros_(up.bias)
    with torch.inference_mode():
        features = network.encoder[0](images)
        for stage in network.encoder[1 : level + 1]:
            features = stage(network.pool(features))
        seen = []
        network.decoder[3 - level].register_forward_pre_hook(lambda module, arguments: seen.append(arguments[0]))
        network(images)
    half = features.shape[1]
    torch.testing.assert_close(seen[0][:, :half], features, rtol=0, atol=0)
    assert not seen[0][:, half:].any()


def test_dropout_acts_between_the_two_paths_of_unet():
    torch.manual_seed(0)
    images = torch.randn(1, 1, 32, 32)
    model = unet(2, width=4, dropout=0.5).train()
    assert not torch.equal(model(images), model(images))
    model = unet(2, width=4, dropout=0.0).train()
    assert torch.equal(model(images), model(images))
