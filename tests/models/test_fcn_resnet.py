import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional
from torchvision.models import ResNet50_Weights, resnet50
from torchvision.models.segmentation import fcn_resnet50 as torchvision_fcn

from bonepipe.config import build, compose
from bonepipe.errors import BonepipeError
from bonepipe.models.fcn_resnet import fcn_resnet50
from bonepipe.models.inspect import encoder_of


@pytest.fixture
def torch_cache(tmp_path, monkeypatch):
    """The file of ResNet-50's weights in the folder where torch looks for it, not there yet; there is no network."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", no_network)
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder / ResNet50_Weights.IMAGENET1K_V1.url.rpartition("/")[2]


def no_network(*_, **__):
    raise OSError("no such host")


def colours():
    """torchvision's own network for colours, its running statistics those of some images."""
    torch.manual_seed(1)
    network = torchvision_fcn(weights=None, weights_backbone=None, num_classes=29)
    with torch.no_grad():
        network(torch.randn(2, 3, 64, 64))
    return network.eval()


@pytest.mark.parametrize("size", [(64, 96), (60, 90)])
def test_it_is_torchvisions_network_on_three_equal_colours(size):
    expected, model = colours(), fcn_resnet50(29).eval()
    state = expected.backbone.state_dict()
    state["conv1.weight"] = state["conv1.weight"].sum(1, keepdim=True)
    model.network.encoder.load_state_dict(state)
    model.network.head.load_state_dict(expected.classifier.state_dict())
    grey = torch.rand(1, 1, *size)
    padded = functional.pad(grey, (0, -size[1] % 8, 0, -size[0] % 8), mode="replicate")
    with torch.inference_mode():
        logits = expected(padded.expand(-1, 3, -1, -1))["out"][..., : size[0], : size[1]]
        torch.testing.assert_close(model(grey), logits, rtol=1e-4, atol=1e-4)


def test_it_has_torchvisions_parameters_but_for_two_colours():
    with torch.device("meta"):
        model, expected = fcn_resnet50(29), torchvision_fcn(weights=None, weights_backbone=None, num_classes=29)
    count = sum(parameter.numel() for parameter in expected.parameters())
    assert sum(parameter.numel() for parameter in model.parameters()) == count - 2 * 64 * 7 * 7


@pytest.mark.parametrize("counted", [True, False])
def test_imagenet_weights_fill_all_of_the_encoder(torch_cache, counted):
    """Also from a file of the time before BatchNorm counted its batches."""
    torch.manual_seed(2)
    state = {k: torch.rand_like(v) if v.is_floating_point() else v for k, v in resnet50().state_dict().items()}
    torch.save({k: v for k, v in state.items() if counted or "num_batches" not in k}, torch_cache)
    encoder = encoder_of(fcn_resnet50(3, encoder_weights="imagenet"))
    loaded = encoder.state_dict()
    assert len(loaded) == len(state) - 2  # ResNet's own classifier
    for key, value in loaded.items():
        expected = state[key].sum(1, keepdim=True) if key == "conv1.weight" else state[key]
        torch.testing.assert_close(value, expected, rtol=0, atol=0)


@pytest.mark.parametrize("content", [None, b"cut off", {"conv1.weight": torch.zeros(64, 3, 7, 7)}])
def test_weights_that_cannot_be_had_name_file_and_way_out(torch_cache, content):
    if isinstance(content, bytes):
        torch_cache.write_bytes(content)
    elif content:
        torch.save(content, torch_cache)
    with pytest.raises(BonepipeError, match=r"resnet50-0676ba61\.pth: .*model\.encoder_weights=null.*TORCH_HOME"):
        fcn_resnet50(3, encoder_weights="imagenet")


def test_other_weights_are_unknown():
    with pytest.raises(ValueError, match="unknown encoder_weights 'imagnet'; did you mean 'imagenet'"):
        fcn_resnet50(3, encoder_weights="imagnet")


def test_a_step_changes_every_parameter_and_safetensors_keep_them(tmp_path):
    torch.manual_seed(0)
    model, images = fcn_resnet50(3), torch.randn(2, 1, 64, 64)
    before = [parameter.detach().clone() for parameter in model.parameters()]
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    functional.softplus(model(images)).mean().backward()
    optimizer.step()
    same = [key for (key, now), old in zip(model.named_parameters(), before, strict=True) if torch.equal(now, old)]
    assert not same
    save_file(model.state_dict(), tmp_path / "weights.safetensors")
    twin = fcn_resnet50(3)
    twin.load_state_dict(load_file(tmp_path / "weights.safetensors"))
    with torch.inference_mode():
        torch.testing.assert_close(twin.eval()(images), model.eval()(images), rtol=0, atol=0)


def test_the_baseline_is_the_organisers():
    config = compose(["experiment=baseline", "model.encoder_weights=null"])
    with torch.device("meta"):
        assert type(build(config, "model", 29).network).__name__ == "FCNResNet50"
    optimizer, trainer = config["optimizer"], config["trainer"]
    assert optimizer["_target_"].endswith(".adam")
    assert (optimizer["lr"], optimizer["weight_decay"]) == (1e-4, 1e-6)
    assert (trainer["batch_size"], trainer["epochs"], config["data"]["size"]) == (8, 5, 512)
    assert config["loss"]["_target_"].endswith("BinaryCrossEntropy")
