import urllib.error

import pytest
import torch
from torchvision.models import vgg

from bonepipe.errors import BonepipeError
from bonepipe.models.deeplab import deeplab_v1
from bonepipe.models.fcn import fcn
from bonepipe.models.segnet import segnet
from bonepipe.models.vgg import CHANNELS, VGG16, UnpoolingDecoder, convolution

FILES = {False: vgg.VGG16_Weights.IMAGENET1K_V1, True: vgg.VGG16_BN_Weights.IMAGENET1K_V1}


@pytest.fixture
def torch_cache(tmp_path, monkeypatch):
    """The folder where torch looks for downloaded weights, on a machine without network."""

    def fail(*args, **kwargs):
        raise urllib.error.URLError("no such host")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", fail)
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder


def colour_features(batch_norm):
    """torchvision's own convolutions with random weights and statistics."""
    torch.manual_seed(1)
    features = vgg.make_layers(vgg.cfgs["D"], batch_norm=batch_norm)
    features(torch.randn(2, 3, 32, 32))
    return features.eval()


def fill(folder, batch_norm, change=lambda state: state):
    """Put weights into the cache; those of the large layers depend on the input alone, which the file stores once.

    As in torchvision's own file of 2017, BatchNorm does not count its batches, and the pickle is in no archive.
    """
    features = colour_features(batch_norm)
    state = {f"features.{key}": value for key, value in features.state_dict().items() if "num_batches" not in key}
    assert len(state) == (78 if batch_norm else 26)
    for number, inputs in ((0, 512 * 49), (3, 4096), (6, 4096)):
        state[f"classifier.{number}.weight"] = torch.randn(inputs).expand(1000 if number == 6 else 4096, inputs)
        state[f"classifier.{number}.bias"] = torch.randn(1000 if number == 6 else 4096)
    name = FILES[batch_norm].url.rpartition("/")[2]
    torch.save(change(state), folder / name, _use_new_zipfile_serialization=False)
    return features, state


FORMS = {
    "plain": lambda state: state,
    "counted": lambda state: state | {f"features.{n}.num_batches_tracked": torch.tensor(5) for n in (1, 4, 8)},
    "in another order": lambda state: dict(reversed(state.items())),
    "from DataParallel": lambda state: {f"module.{key}": value for key, value in state.items()},
    "a checkpoint": lambda state: {"epoch": 90, "state_dict": state},
    "half precision": lambda state: {key: value.half() for key, value in state.items()},
    "without a classifier": lambda state: {key: value for key, value in state.items() if "classifier" not in key},
}


@pytest.mark.parametrize("form", FORMS)
def test_a_file_is_read_by_name_in_whatever_form_it_comes(torch_cache, form):
    features, _ = fill(torch_cache, True, FORMS[form])
    encoder = VGG16(batch_norm=True).eval()
    encoder.load("imagenet")
    grey, near = torch.randn(1, 1, 32, 64), 1e-2 if form == "half precision" else 1e-4
    with torch.inference_mode():
        expected = features(grey.expand(-1, 3, -1, -1))
        torch.testing.assert_close(encoder(grey)[0][-1], expected, rtol=near, atol=near)


FAULTS = {
    "no such layer": (lambda state: state.pop("features.41.running_mean"), r"Missing key.*stages\.4\.7\.running_mean"),
    "no first layer": (lambda state: state.pop("features.0.weight"), r"the file has no features\.0\.weight"),
    "wider": (
        lambda state: state.update({"features.3.bias": torch.zeros(65)}),
        r"size mismatch for stages\.0\.3\.bias",
    ),
    "NaN": (lambda state: state["features.4.weight"].fill_(torch.nan), r"stages\.0\.4\.weight is not finite"),
    "no fc6": (lambda state: state.pop("classifier.0.weight"), r"the file has no classifier\.0\.weight"),
    "small fc7": (
        lambda state: state.update({"classifier.3.bias": torch.zeros(2)}),
        "4 channels cannot be taken from 2",
    ),
    "NaN in fc6": (lambda state: state["classifier.0.bias"].fill_(torch.nan), r"classifier\.0\.bias is not finite"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_does_not_fit_in_a_file_of_weights_is_named_with_the_file(torch_cache, fault):
    change, message = FAULTS[fault]
    fill(torch_cache, True, lambda state: (change(state), state)[1])
    hidden = [torch.nn.Conv2d(512, 4, 3), torch.nn.Conv2d(4, 4, 1)]
    with pytest.raises(BonepipeError, match=rf"vgg16_bn.*vgg16_bn-6c64b313\.pth: .*{message}.*encoder_weights=null"):
        VGG16(batch_norm=True).load("imagenet", hidden)


def test_deconvnets_hidden_layers_are_filled_beside_normalised_stages(torch_cache):
    _, state = fill(torch_cache, True)
    hidden = [torch.nn.Conv2d(512, 4, 7), torch.nn.Conv2d(4, 4, 1)]
    VGG16(batch_norm=True).load("imagenet", hidden)
    kept = [0, 1365, 2730, 4095]
    torch.testing.assert_close(hidden[0].bias, state["classifier.0.bias"][kept], rtol=0, atol=0)
    torch.testing.assert_close(hidden[1].weight[0, :, 0, 0], state["classifier.3.weight"][0, kept], rtol=0, atol=0)


def test_segnet_takes_imagenet_weights(torch_cache):
    _, state = fill(torch_cache, True)
    encoder = segnet(3, encoder_weights="imagenet").network.encoder
    torch.testing.assert_close(encoder.stages[4][7].weight, state["features.41.weight"], rtol=0, atol=0)


@pytest.mark.parametrize("batch_norm", [False, True])
def test_a_grey_image_gives_what_three_equal_colours_give_torchvision(torch_cache, batch_norm):
    features, _ = fill(torch_cache, batch_norm)
    encoder = VGG16(batch_norm=batch_norm).eval()
    encoder.load("imagenet")
    grey = torch.randn(1, 1, 64, 96)
    with torch.inference_mode():
        expected = features(grey.expand(-1, 3, -1, -1))
        torch.testing.assert_close(encoder(grey)[0][-1], expected, rtol=1e-4, atol=1e-5)


def test_large_field_of_view_takes_every_fourth_filter_and_every_third_tap(torch_cache):
    _, state = fill(torch_cache, False)
    layers = [m for m in deeplab_v1(3, encoder_weights="imagenet").network.fully if isinstance(m, torch.nn.Conv2d)]
    taps = state["classifier.0.weight"][0].reshape(512, 7, 7)[:, [0, 3, 6]][:, :, [0, 3, 6]]
    torch.testing.assert_close(layers[0].weight, taps.expand(1024, -1, -1, -1), rtol=0, atol=0)
    kept = [round(i * 4095 / 1023) for i in range(1024)]
    torch.testing.assert_close(layers[0].bias, state["classifier.0.bias"][kept], rtol=0, atol=0)
    torch.testing.assert_close(layers[1].weight[5, :, 0, 0], state["classifier.3.weight"][0, kept], rtol=0, atol=0)
    torch.testing.assert_close(layers[1].bias, state["classifier.3.bias"][kept], rtol=0, atol=0)


@pytest.mark.parametrize("content", [None, b"cut off"])
def test_vgg_weights_that_cannot_be_had_name_the_way_out(torch_cache, content):
    if content:
        (torch_cache / FILES[False].url.rpartition("/")[2]).write_bytes(content)
    with torch.device("meta"), pytest.raises(BonepipeError, match=r"vgg16.*encoder_weights=null.*TORCH_HOME"):
        fcn(3, encoder_weights="imagenet")


def test_a_switch_is_the_place_of_the_maximum():
    """A stage that hands the image on shows the pooling alone."""
    encoder = VGG16(1)
    encoder.stages[0] = torch.nn.Identity()
    image = torch.zeros(1, 1, 32, 32)
    image[0, 0, 5, 8] = 1
    _, switches = encoder(image)
    assert switches[0][0, 0, 2, 4] == 5 * 32 + 8


def test_a_moved_maximum_moves_the_unpooled_value():
    decoder = UnpoolingDecoder(1, ((8,), (4,), (2,), (1,), (1,)), convolution)
    for number in range(5):
        decoder.stages[number] = torch.nn.Identity()
    values = torch.full((1, 8, 1, 1), 7.0)
    for row, column in [(13, 6), (13, 7), (30, 21)]:
        image = torch.zeros(1, 8, 32, 32)
        image[:, :, row, column] = 1
        switches = []
        for _ in range(5):
            image, switch = torch.nn.functional.max_pool2d(image, 2, return_indices=True)
            switches.append(switch)
        expected = torch.zeros(1, 8, 32, 32)
        expected[:, :, row, column] = 7
        torch.testing.assert_close(decoder(values, switches), expected, rtol=0, atol=0)


def test_the_mirrored_decoder_uses_every_stages_switches():
    torch.manual_seed(0)
    encoder = VGG16(2, batch_norm=True).eval()
    decoder = UnpoolingDecoder(2, tuple((c,) for c in (8, 4, 2, 1, 1)), convolution).eval()
    maps, switches = encoder(torch.randn(1, 1, 64, 64))
    usual = decoder(maps[-1], switches)
    for number in range(5):
        moved = list(switches)
        moved[number] = switches[number] ^ 1  # the neighbouring column of the same window
        assert not torch.equal(decoder(maps[-1], moved), usual)


def test_stages_have_the_papers_channels_and_sizes():
    maps, switches = VGG16(3)(torch.randn(1, 1, 64, 32))
    assert [tuple(m.shape[1:]) for m in maps] == [
        (3 * c, 64 // 2 ** (n + 1), 32 // 2 ** (n + 1)) for n, c in enumerate(CHANNELS)
    ]
    assert [s.shape for s in switches] == [m.shape for m in maps]
