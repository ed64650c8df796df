import huggingface_hub
import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional

from bonepipe.errors import BonepipeError
from bonepipe.models.hrnet import hrnet


def small(**changes):
    torch.manual_seed(0)
    return hrnet(3, **{"variant": "hrnet_w18_small", "encoder_weights": None, **changes})


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


def test_parameters_are_the_papers():
    """W48 has 65.9 M for the 19 classes of Cityscapes; two more input channels are 2 * 9 * 64 weights."""
    with torch.device("meta"):
        model = hrnet(19, variant="hrnet_w48", encoder_weights=None)
    assert count(model) + 2 * 9 * 64 == pytest.approx(65.9e6, rel=0.002)


@pytest.mark.parametrize(("variant", "joined"), [("hrnet_w18", 270), ("hrnet_w48", 720)])
def test_the_head_mixes_all_four_streams(variant, joined):
    """The backbone of timm's classifier without the layers that widen the streams, and a head of two convolutions."""
    with torch.device("meta"):
        model, classifier = hrnet(29, variant=variant, encoder_weights=None), timm.create_model(variant, in_chans=1)
    widening = [
        getattr(classifier, part) for part in ("incre_modules", "downsamp_modules", "final_layer", "classifier")
    ]
    head = joined * (joined + 1) + 2 * joined + 29 * (joined + 1)
    assert count(model) == count(classifier) - sum(count(part) for part in widening) + head


@pytest.mark.parametrize("size", [(64, 96), (75, 50)])
def test_logits_of_hrnet_have_the_images_size(size):
    model = small()
    assert model(torch.rand(2, 1, *size)).shape == (2, 3, *size)
    with torch.inference_mode():
        assert model.eval()(torch.rand(2, 1, *size)).shape == (2, 3, *size)


def test_streams_are_joined_at_a_quarter_of_the_image():
    network = small().network.eval()
    images = torch.rand(1, 1, 64, 64)
    with torch.inference_mode():
        streams = network.encoder(images)
        assert [tuple(maps.shape[1:]) for maps in streams] == [(16, 16, 16), (32, 8, 8), (64, 4, 4), (128, 2, 2)]
        joined = torch.cat([torch.nn.Upsample((16, 16), mode="bilinear")(maps) for maps in streams], 1)
        expected = functional.interpolate(network.head(joined), scale_factor=4, mode="bilinear")
        torch.testing.assert_close(network(images), expected, rtol=0, atol=1e-6)


def test_every_weight_of_all_streams_learns():
    model = small()
    model(torch.rand(2, 1, 64, 64)).square().sum().backward()
    assert not [name for name, p in model.named_parameters() if p.grad is None]


def test_streams_go_through_safetensors_and_export(tmp_path):
    model, other = small().eval(), small(prior=0.3)
    save_file(model.state_dict(), tmp_path / "weights.safetensors")
    other.load_state_dict(load_file(tmp_path / "weights.safetensors"))
    images = torch.rand(1, 1, 64, 64)
    with torch.inference_mode():
        expected = model(images)
        torch.testing.assert_close(other.eval()(images), expected, rtol=0, atol=0)
    torch.testing.assert_close(torch.export.export(model, (images,)).module()(images), expected)


def test_unknown_variants_and_tags_are_named():
    with pytest.raises(ValueError, match="unknown variant 'hrnet_w81'; did you mean 'hrnet_w"):
        small(variant="hrnet_w81")
    with pytest.raises(
        ValueError, match=r"'hrnet_w18_small' has no weights 'abc'; there are imagenet, gluon_in1k, ms_in1k"
    ):
        small(encoder_weights="abc")


def test_missing_weights_of_hrnet_name_the_way_out(tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(BonepipeError, match=r"hrnet_w18_small.*model\.encoder_weights=null.*HF_HOME"):
        small(encoder_weights="imagenet")
