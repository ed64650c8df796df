import pytest
import torch

from bonepipe import config as configs
from bonepipe.training.precision import autocast, lightning_precision, resolve


def test_lightning_names():
    names = [lightning_precision(name, "cpu") for name in ("auto", "32", 32, "bf16", "fp16")]
    assert names == ["32-true", "32-true", "32-true", "bf16-mixed", "16-mixed"]


@pytest.mark.parametrize("word", ["trainer.precision=32", "prediction.precision=32", "trainer.precision='32'"])
def test_the_number_is_taken_for_the_name(word):
    config = configs.compose(["experiment=demo", "data.root=x", word])
    assert resolve(configs.build(config, word.partition(".")[0]).precision, "cuda") == "32"


@pytest.mark.parametrize(("has_bf16", "expected"), [(True, "bf16"), (False, "fp16")])
def test_auto_is_half_precision_on_gpus_alone(monkeypatch, has_bf16, expected):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: has_bf16)
    assert [resolve("auto", device) for device in ("cpu", "mps", "cuda")] == ["32", "32", expected]
    assert resolve("32", "cuda") == "32"


def test_autocast_computes_in_the_precision_asked_for():
    layer, image = torch.nn.Conv2d(1, 2, 3), torch.rand(1, 1, 8, 8)
    for name, dtype in (("auto", torch.float32), ("32", torch.float32), ("bf16", torch.bfloat16)):
        with autocast(name, "cpu"):
            assert layer(image).dtype == dtype
