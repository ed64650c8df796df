import torch

from bonepipe.models.segnet import segnet


def test_segnet_mirrors_its_encoder():
    """The mirrored convolutions have the encoder's channels swapped; the last one makes the classes instead."""
    network = segnet(5, width=3).network
    shapes = [
        [(m.in_channels, m.out_channels) for m in part.modules() if isinstance(m, torch.nn.Conv2d)]
        for part in (network.encoder, network.decoder)
    ]
    assert shapes[1] == [(outputs, inputs) for inputs, outputs in reversed(shapes[0][1:])]
    assert (network.head.in_channels, network.head.out_channels) == (3, 5)
