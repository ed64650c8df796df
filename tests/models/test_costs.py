import pytest
import torch
from torch import nn

from bonepipe.errors import UsageError
from bonepipe.models import costs
from bonepipe.report import options


def two_convolutions():
    return nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 2, 1))


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_operations_are_two_a_weight_and_pixel(device):
    assert costs.operations(two_convolutions().to(device), 8) == 2 * 64 * (9 * 4 + 4 * 2)


def test_memory_is_followed_through_views_copies_and_drops():
    first = torch.zeros(100)  # 400 bytes
    with costs.LiveBytes([first, first[:50]]) as live:
        assert live.now == 400
        second = first + 1
        view = second.view(10, 10)
        second.add_(1)
        assert live.now == 800
        del second
        assert live.now == 800  # the view holds it
        del view
        assert live.now == 400
        first.double()
        assert (live.now, live.peak) == (400, 1200)


def test_training_needs_the_activations_that_backward_reads():
    """Two convolutions on an image of 8 x 8, from which 50 weights, then 1, 4, 4 and 2 maps live at the end."""
    shallow = costs.training_bytes(two_convolutions().to("meta"), 8, images=1)
    assert shallow >= 4 * (50 + 64 * (1 + 4 + 4 + 2))
    assert costs.training_bytes(two_convolutions(), 8, images=1) == shallow
    large = costs.training_bytes(two_convolutions().to("meta"), 16, images=1)
    assert 3.5 < large / shallow < 4


def test_the_table_has_a_row_a_model_in_order_of_size():
    rows = costs.model_table(["unet_resnet18", "smp_segformer"], repeats=1)
    assert [row.name for row in rows] == ["unet_resnet18", "smp_segformer"]
    assert rows[0].parameters == sum(p.numel() for p in costs.build("unet_resnet18").parameters())
    assert all(row.operations > 1e9 and row.milliseconds > 0 and row.training_bytes > 2**27 for row in rows)
    lines = options.costs(rows).splitlines()
    assert [line.split("|")[1].strip() for line in lines[2:]] == ["smp_segformer", "unet_resnet18"]
    assert {line.count("|") for line in lines} == {6}


def test_an_unknown_model_is_refused():
    with pytest.raises(UsageError, match="model has no option 'unet_resnet81'"):
        costs.model_table(["unet_resnet81"])
