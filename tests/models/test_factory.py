import copy

import huggingface_hub
import pytest
import segmentation_models_pytorch as smp
import torch
import ttach
from safetensors.torch import save_file

from bonepipe.errors import BonepipeError
from bonepipe.models.factory import smp_model
from bonepipe.models.outputs import Outputs

SMALL = {"decoder_channels": [16, 16, 8, 8, 8]}


def small_unet(classes=5, **changes):
    arguments = {"architecture": "Unet", "encoder": "resnet18", "encoder_weights": None, "settings": SMALL}
    return smp_model(classes, **{**arguments, **changes})


@pytest.fixture(scope="module")
def unet():
    torch.manual_seed(0)
    return small_unet().eval()


@pytest.mark.parametrize("size", [(64, 64), (75, 90), (33, 64)])
def test_logits_have_the_size_of_the_image(unet, size):
    with torch.inference_mode():
        logits = unet(torch.rand(2, 1, *size))
    assert logits.shape == (2, 5, *size)
    assert logits.dtype == torch.float32


def test_a_size_that_divides_goes_through_unchanged(unet):
    images = torch.rand(1, 1, 64, 96)
    with torch.inference_mode():
        torch.testing.assert_close(unet(images), unet.network(images), rtol=0, atol=0)


def test_other_sizes_are_the_crop_of_a_picture_whose_edges_go_on(unet):
    images = torch.rand(1, 1, 60, 40)
    rows, columns = torch.arange(64).clamp(max=59), torch.arange(64).clamp(max=39)
    with torch.inference_mode():
        whole = unet.network(images[:, :, rows][:, :, :, columns])
        torch.testing.assert_close(unet(images), whole[..., :60, :40], rtol=0, atol=1e-6)


def test_the_model_takes_grey_images_and_gives_a_map_a_class(unet):
    convolutions = [module for module in unet.modules() if isinstance(module, torch.nn.Conv2d)]
    assert convolutions[0].in_channels == 1
    assert convolutions[-1].out_channels == 5


@pytest.mark.parametrize("architecture", ["UnetPlusPlus", "FPN", "DeepLabV3Plus", "Linknet", "MAnet", "Segformer"])
def test_other_architectures_take_any_size(architecture):
    model = small_unet(architecture=architecture, settings={}).eval()
    with torch.inference_mode():
        assert model(torch.rand(1, 1, 75, 90)).shape == (1, 5, 75, 90)


@pytest.mark.parametrize("size", [(64, 64), (128, 128), (160, 75)])
def test_pan_is_given_images_that_its_pyramid_can_halve(size):
    """Size 128 goes through as it is; a smaller image is the crop of one whose edges go on."""
    torch.manual_seed(0)
    model, images = small_unet(architecture="PAN", settings={}).eval(), torch.rand(1, 1, *size)
    rows, columns = (torch.arange(max(128, -(-s // 32) * 32)).clamp(max=s - 1) for s in size)
    with torch.inference_mode():
        whole = model.network(images[:, :, rows][:, :, :, columns])
        torch.testing.assert_close(model(images), whole[..., : size[0], : size[1]], rtol=0, atol=1e-6)


def test_a_classification_head_answers_in_training_only(unet):
    model = small_unet(presence=True)
    images = torch.rand(2, 1, 75, 50)
    answer = model(images)
    assert isinstance(answer, Outputs)
    assert [logits.shape for logits in answer.maps] == [(2, 5, 75, 50)]
    assert answer.presence.shape == (2, 5)
    model.load_state_dict(unet.state_dict(), strict=False)  # the same names, and the head's beside them
    with torch.inference_mode():
        torch.testing.assert_close(model.eval()(images), unet(images), rtol=0, atol=0)
        merged = ttach.SegmentationTTAWrapper(model, ttach.aliases.hflip_transform())(images)
    assert merged.shape == (2, 5, 75, 50)


def test_the_classification_head_teaches_the_encoder_and_survives_copying():
    model = copy.deepcopy(small_unet(presence=True))
    model(torch.rand(2, 1, 64, 64)).presence.sum().backward()
    assert all(p.grad is not None for p in model.network.encoder.parameters())
    assert all(p.grad is None for p in model.network.decoder.parameters())


@pytest.mark.parametrize("architecture", ["Unet", "UnetPlusPlus", "MAnet", "Linknet"])
def test_a_last_level_sees_the_image_at_full_resolution(architecture):
    """A checkerboard of single pixels reaches the answer where something looks at the image before it is halved."""
    torch.manual_seed(0)
    settings = {} if architecture == "Linknet" else SMALL
    model = small_unet(architecture=architecture, full_resolution=6, settings=settings).eval()
    image = torch.rand(1, 1, 75, 64)
    board = (torch.arange(75)[:, None] + torch.arange(64)) % 2
    with torch.inference_mode():
        answer = model(image)
        maps = model.network.decoder.stem(image + 0.1 * board) - model.network.decoder.stem(image)
    assert answer.shape == (1, 5, 75, 64)
    assert maps.shape[1] == 3 and maps.abs().max() > 0.01
    assert answer.sigmoid().median().item() == pytest.approx(0.01, rel=0.5)


def test_a_decoder_that_ends_below_full_resolution_has_no_such_level():
    with pytest.raises(ValueError, match="full_resolution=8: the decoder of FPN"):
        small_unet(architecture="FPN", full_resolution=8, settings={})


@pytest.mark.parametrize("prior", [0.01, 0.3])
def test_an_untrained_model_answers_with_the_prior(prior):
    torch.manual_seed(0)
    model = small_unet(prior=prior).eval()
    head = [module for module in model.modules() if isinstance(module, torch.nn.Conv2d)][-1]
    torch.testing.assert_close(head.bias.sigmoid(), torch.full((5,), prior))
    with torch.inference_mode():
        assert model(torch.rand(2, 1, 64, 64)).sigmoid().median().item() == pytest.approx(prior, rel=0.5)


@pytest.mark.parametrize("prior", [0.0, 1.0])
def test_the_prior_is_a_probability(prior):
    with pytest.raises(ValueError, match="prior"):
        small_unet(prior=prior)


def test_settings_reach_the_architecture(unet):
    wide = small_unet(settings={"decoder_channels": [32, 16, 8, 8, 8]})
    count = lambda model: sum(p.numel() for p in model.parameters())  # noqa: E731
    assert count(wide) > count(unet)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"architecture": "Unett"}, "unknown architecture 'Unett'; did you mean 'Unet'"),
        ({"architecture": "zzz"}, "unknown architecture 'zzz'; there are .*Unet"),
        ({"encoder": "resnet81"}, "unknown encoder 'resnet81'; did you mean 'resnet18'"),
        ({"encoder": "tu-resnet18x"}, "tu-resnet18x"),
        ({"settings": {"decoder_chanels": [8] * 5}}, "'decoder_chanels'; did you mean 'decoder_channels'"),
        ({"settings": {"classes": 3}}, "'classes'"),
        ({"settings": {"aux_params": {"classes": 3}}}, "'aux_params'"),
        ({"settings": {"decoder_channels": [8, 8]}}, "decoder_channels"),
        ({"encoder_weights": "imagnet"}, "encoder 'resnet18' has no weights 'imagnet'.*imagenet"),
        ({"encoder": "tu-resnet50x"}, "unknown encoder 'tu-resnet50x'; did you mean 'tu-resnet50"),
    ],
)
def test_a_mistake_in_the_config_is_named(change, message):
    with pytest.raises(ValueError, match=message):
        small_unet(**change)


def test_timm_encoders_take_settings_of_their_own():
    model = small_unet(encoder="tu-resnet18", settings={**SMALL, "act_layer": torch.nn.SiLU})
    assert any(isinstance(module, torch.nn.SiLU) for module in model.modules())


@pytest.fixture
def hub_cache(tmp_path, monkeypatch):
    """The cache folder of a hub client that has no network."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    return tmp_path


def test_weights_that_are_not_in_the_cache_name_the_way_out(hub_cache):
    with pytest.raises(BonepipeError, match=r"resnet34.*model\.encoder_weights=null.*HF_HOME"):
        small_unet(encoder="resnet34", encoder_weights="imagenet")


def test_pretrained_weights_come_from_the_cache_and_a_grey_image_counts_as_three(hub_cache):
    source = smp.encoders.encoders["resnet18"]["pretrained_settings"]["imagenet"]
    snapshot = hub_cache / f"models--{source['repo_id'].replace('/', '--')}" / "snapshots" / source["revision"]
    snapshot.mkdir(parents=True)
    torch.manual_seed(1)
    colour = smp.encoders.get_encoder("resnet18", weights=None).eval()
    save_file(colour.state_dict(), snapshot / "model.safetensors")
    (snapshot / "config.json").write_text("{}")

    encoder = small_unet(encoder_weights="imagenet").eval().network.encoder
    loaded, given = encoder.state_dict(), colour.state_dict()
    assert loaded.keys() == given.keys()
    for key, value in given.items():
        expected = value.sum(1, keepdim=True) if key == "conv1.weight" else value
        torch.testing.assert_close(loaded[key], expected, rtol=0, atol=0)
    grey = torch.rand(1, 1, 64, 64)
    with torch.inference_mode():
        for one, three in zip(encoder(grey)[1:], colour(grey.expand(-1, 3, -1, -1))[1:], strict=True):
            torch.testing.assert_close(one, three, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("error", [OSError("no such host"), RuntimeError("Cannot connect: client has been closed")])
def test_weights_that_cannot_be_had_name_the_way_out(monkeypatch, error):
    def fail(*args, **kwargs):
        raise error

    monkeypatch.setattr(smp.encoders, "hf_hub_download", fail)
    with pytest.raises(BonepipeError, match=r"model\.encoder_weights=null.*HF_HOME"):
        small_unet(encoder_weights="imagenet")
