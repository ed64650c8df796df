import pytest
import torch
from safetensors.torch import load_file, save_file

from bonepipe.models.unetplusplus import UNetPlusPlus, unetplusplus

SIZES = [(64, 32), (75, 50)]


def small(**changes):
    torch.manual_seed(0)
    return unetplusplus(3, **{"width": 2, **changes})


@pytest.fixture
def images():
    return torch.rand(2, 1, 48, 32, generator=torch.Generator().manual_seed(1))


def test_has_as_many_parameters_as_the_paper_says():
    """It reports 9.04 M, for one class and an RGB image: 2 * 9 * 32 weights more. Further classes
    are 33 parameters each in four heads."""
    with torch.device("meta"):
        one, many = (sum(p.numel() for p in unetplusplus(classes).parameters()) for classes in (1, 29))
    assert one + 2 * 9 * 32 == pytest.approx(9.04e6, rel=0.002)
    assert many - one == 28 * 4 * 33


@pytest.mark.parametrize("size", SIZES)
def test_four_maps_in_training_and_one_in_evaluation(size):
    model, images = small(), torch.rand(2, 1, *size)
    assert [logits.shape for logits in model(images).maps] == [(2, 3, *size)] * 4
    with torch.inference_mode():
        assert model.eval()(images).shape == (2, 3, *size)
    assert small(deep_supervision=False)(images).shape == (2, 3, *size)


def frozen_statistics(model):
    """Training mode, so that all depths answer, but normalised as in evaluation."""
    model.train()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eval()
    return model


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_a_pruned_network_answers_as_that_depth_of_the_whole(images, depth):
    model, pruned = small(), small(prune=depth).eval()
    with torch.no_grad():
        for _ in range(3):
            model(images)  # statistics that matter
        pruned.load_state_dict(model.state_dict())
        maps = frozen_statistics(model)(images).maps
        torch.testing.assert_close(pruned(images), maps[4 - depth], rtol=0, atol=0)


def test_without_pruning_the_deepest_answers(images):
    with torch.inference_mode():
        torch.testing.assert_close(small().eval()(images), small(prune=4).eval()(images), rtol=0, atol=0)


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_a_pruned_network_computes_no_unused_node(images, depth):
    model, called = small(prune=depth).eval(), []
    for key, node in model.network.decoder.items():
        node.register_forward_hook(lambda *_, key=key: called.append(key))
    for level, block in enumerate(model.network.encoder):
        block.register_forward_hook(lambda *_, level=level: called.append(f"{level}_0"))
    with torch.inference_mode():
        model(images)
    needed = [f"{level}_{column}" for column in range(depth + 1) for level in range(depth + 1 - column)]
    assert sorted(called) == sorted(needed)


def test_a_node_joins_its_row_and_the_node_below():
    """Node (0, 2) against equation 1: [x(0,0), x(0,1), up(x(1,1))]."""
    network = UNetPlusPlus(3, 2, True, 4, "plain").eval()
    seen = {}
    for key, node in network.decoder.items():
        node.register_forward_hook(lambda module, given, result, key=key: seen.update({key: result}))
    network.encoder[0].register_forward_hook(lambda module, given, result: seen.update({"0_0": result}))
    with torch.inference_mode():
        network(torch.rand(1, 1, 32, 32))
        node = network.decoder["0_2"]
        expected = node.block(torch.cat([seen["0_0"], seen["0_1"], node.up(seen["1_1"])], 1))
    torch.testing.assert_close(seen["0_2"], expected, rtol=0, atol=0)


def test_every_weight_of_the_nested_networks_learns(images):
    model = small()
    sum(logits.square().sum() for logits in model(images).maps).backward()
    assert not [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]


@pytest.mark.parametrize("block", ["plain", "dilated", "separable"])
def test_nested_weights_go_through_safetensors_and_the_network_through_export(tmp_path, images, block):
    model, other = small(block=block).eval(), small(block=block, prior=0.3)
    save_file(model.state_dict(), tmp_path / "weights.safetensors")
    other.load_state_dict(load_file(tmp_path / "weights.safetensors"))
    with torch.inference_mode():
        expected = model(images)
        torch.testing.assert_close(other.eval()(images), expected, rtol=0, atol=0)
    torch.testing.assert_close(torch.export.export(model, (images,)).module()(images), expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"width": 0}, "width=0"),
        ({"prune": 5}, "prune=5 must be a depth from 1 to 4"),
        ({"prune": 0}, "prune=0"),
        ({"prune": 2, "deep_supervision": False}, "prune=2 needs deep_supervision=true"),
    ],
)
def test_wrong_settings_of_unetplusplus_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        small(**change)
