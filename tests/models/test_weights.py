"""Other people's files of weights, as smp and timm take them from the hub's cache."""

import re
import warnings

import huggingface_hub
import pytest
import segmentation_models_pytorch as smp
import timm
import torch
from safetensors.torch import save_file

from bonepipe.errors import BonepipeError
from bonepipe.models.factory import dilated_encoder, smp_model
from bonepipe.models.hrnet import hrnet
from bonepipe.models.presence import PresenceNet

SMALL = {"decoder_channels": [8, 8, 8, 8, 8]}


@pytest.fixture
def cached(tmp_path, monkeypatch):
    """Put a file of weights into the cache of a hub client that has no network."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))

    def put(repository, revision, state):
        folder = tmp_path / f"models--{repository.replace('/', '--')}"
        snapshot = folder / "snapshots" / revision
        snapshot.mkdir(parents=True)
        (folder / "refs").mkdir()
        (folder / "refs" / "main").write_text(revision)
        (snapshot / "config.json").write_text("{}")
        save_file({key: value.contiguous() for key, value in state.items()}, snapshot / "model.safetensors")
        return snapshot / "model.safetensors"

    return put


def put_smp(cached, state):
    source = smp.encoders.encoders["resnet18"]["pretrained_settings"]["imagenet"]
    return cached(source["repo_id"], source["revision"], state)


def put_timm(cached, state, tag="a1_in1k"):
    return cached(f"timm/resnet18.{tag}", "a" * 40, state)


def colours(seed=1):
    torch.manual_seed(seed)
    return timm.create_model("resnet18").state_dict()


def unet(encoder, weights="imagenet"):
    torch.manual_seed(0)
    return smp_model(3, architecture="Unet", encoder=encoder, encoder_weights=weights, settings=SMALL)


MAKERS = {
    "tu-resnet18": lambda: unet("tu-resnet18").network.encoder.model,
    "dilated": lambda: dilated_encoder("tu-resnet18", "imagenet", 8).model,
}


@pytest.mark.parametrize("maker", MAKERS)
def test_timms_encoders_take_every_layer_from_the_file(cached, maker):
    state = colours()
    put_timm(cached, state)
    loaded = MAKERS[maker]().state_dict()
    assert len(loaded) > 100
    for key, value in loaded.items():
        expected = state[key].sum(1, keepdim=True) if key == "conv1.weight" else state[key]
        torch.testing.assert_close(value, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("maker", MAKERS)
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda state: {f"module.{key}": value for key, value in state.items()},
            "fills no .*conv1.weight and lacks 20",
        ),
        (
            lambda state: {key: value for key, value in state.items() if not key.startswith("layer4.1.")},
            r"fills no .*layer4.1.conv1.weight and lacks 2",
        ),
        (lambda state: state | {"layer1.0.conv1.weight": torch.zeros(64, 32, 3, 3)}, "size mismatch"),
        (lambda state: state | {"bn1.running_var": torch.full((64,), torch.nan)}, "bn1.running_var is not finite"),
    ],
)
def test_a_file_that_timm_would_take_in_part_is_refused(cached, maker, change, message):
    """Its loader passes over what a file lacks, and the encoder would start from random numbers."""
    put_timm(cached, change(colours()))
    with pytest.raises(BonepipeError, match=rf"resnet18 cannot be had .*{message}.*model\.encoder_weights=null"):
        MAKERS[maker]()


def test_a_file_that_smp_cannot_take_is_named_as_such(cached):
    put_smp(cached, {"conv1.weight": torch.zeros(64, 3, 7, 7)})
    with pytest.raises(BonepipeError, match=r"weights of resnet18 cannot be had .*Missing key.*encoder_weights=null"):
        unet("resnet18")


@pytest.mark.parametrize("encoder", ["resnet18", "tu-resnet18"])
def test_a_file_that_was_cut_short_is_named_as_such(cached, encoder):
    put = put_timm if encoder.startswith("tu-") else put_smp
    path = put(cached, colours())
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(BonepipeError, match=rf"weights of {encoder} cannot be had .*encoder_weights=null"):
        unet(encoder)


def test_hrnet_is_not_left_half_random(cached):
    cached("timm/hrnet_w18_small.gluon_in1k", "a" * 40, {"conv1.weight": torch.rand(64, 3, 3, 3)})
    with pytest.raises(BonepipeError, match=r"hrnet_w18_small cannot be had .*fills no conv2\.weight"):
        hrnet(3, variant="hrnet_w18_small", encoder_weights="imagenet")


def test_the_setting_of_a_classifiers_encoder_is_named_as_it_is(cached):
    with pytest.raises(BonepipeError, match=r"^cam\.encoder_weights=imagenet: .*with cam\.encoder_weights=null"):
        PresenceNet(3, "resnet18", "imagenet")


def test_a_setting_is_judged_before_weights_are_looked_for(cached):
    with pytest.raises(ValueError, match="decoder_channels"):
        smp_model(3, architecture="Unet", encoder="resnet18", settings={"decoder_channels": [8]})


def test_the_name_of_weights_chooses_among_timms(cached):
    usual, other = colours(1), colours(2)
    put_timm(cached, usual)
    put_timm(cached, other, "gluon_in1k")
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        for name, state in (("imagenet", usual), ("gluon_in1k", other)):
            encoder = unet("tu-resnet18", name).network.encoder.model
            torch.testing.assert_close(encoder.layer1[0].conv1.weight, state["layer1.0.conv1.weight"], rtol=0, atol=0)


@pytest.mark.parametrize("weights", ["imagnet", "noisy-student"])
def test_weights_that_timm_does_not_have_are_refused(weights):
    message = re.escape(f"encoder 'resnet18' has no weights '{weights}'; there are imagenet, ")
    with pytest.raises(ValueError, match=message + ".*a1_in1k"):
        unet("tu-resnet18", weights)


def test_the_decoder_starts_alike_with_and_without_looking_for_weights(cached):
    """What the untrained twin drew changes nothing: a seed gives the weights that it always gave."""
    put_timm(cached, colours())
    torch.manual_seed(0)
    expected = smp.Unet("tu-resnet18", encoder_weights="imagenet", in_channels=1, classes=3, **SMALL)
    network = unet("tu-resnet18").network
    torch.testing.assert_close(network.decoder.state_dict(), expected.decoder.state_dict(), rtol=0, atol=0)
