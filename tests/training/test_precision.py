from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from lightning_fabric.utilities.exceptions import MisconfigurationException
from torch.backends import cudnn

from bonepipe import config as configs
from bonepipe.data.spec import DataSpec
from bonepipe.inference import fold_model
from bonepipe.inference.tta import Views
from bonepipe.training.fit import TrainerSpec, make_trainer
from bonepipe.training.precision import autocast, lightning_precision, resolve, set_up


@pytest.fixture
def plain_processor(monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True, "avx512_bf16": False})


@pytest.mark.usefixtures("plain_processor")
def test_lightning_names():
    names = [lightning_precision(name, "cpu") for name in ("auto", "32", 32, "tf32", "bf16", "fp16")]
    assert names == ["32-true", "32-true", "32-true", "32-true", "bf16-mixed", "16-mixed"]


@pytest.mark.parametrize("word", ["trainer.precision=32", "prediction.precision=32", "trainer.precision='32'"])
def test_the_number_is_taken_for_the_name(word):
    config = configs.compose(["experiment=demo", "data.root=x", word])
    assert resolve(configs.build(config, word.partition(".")[0]).precision, "cuda") == "32"


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [({"avx512_bf16": True}, "bf16"), ({"amx_bf16": True}, "bf16"), ({"avx512_f": True, "amx_bf16": False}, "32")],
)
def test_auto_is_bf16_on_processors_that_multiply_it(monkeypatch, capabilities, expected):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    assert [resolve("auto", device, training=True) for device in ("cpu", "mps")] == [expected, "32"]
    assert resolve("32", "cpu", training=True) == resolve("auto", "cpu") == "32"
    assert lightning_precision("auto", "cpu") == ("bf16-mixed" if expected == "bf16" else "32-true")


@pytest.mark.usefixtures("plain_processor")
@pytest.mark.parametrize(("capability", "expected"), [(6, "fp16"), (7, "fp16"), (8, "bf16"), (9, "bf16")])
def test_auto_is_half_precision_on_gpus(monkeypatch, capability, expected):
    """Pascal, Volta and Turing (T4, RTX 20xx) make bf16 tensors, but have no circuits for them."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: SimpleNamespace(major=capability))
    monkeypatch.setattr(torch.cuda, "_check_bf16_tensor_supported", lambda _: True)
    assert torch.cuda.is_bf16_supported()  # emulation counts here
    assert [resolve("auto", device) for device in ("cpu", "mps", "cuda")] == ["32", "32", expected]
    assert resolve("32", "cuda") == "32"


@pytest.mark.usefixtures("plain_processor")
def test_autocast_computes_in_the_precision_asked_for():
    layer, image = torch.nn.Conv2d(1, 2, 3), torch.rand(1, 1, 8, 8)
    for name, dtype in (
        ("auto", torch.float32),
        ("32", torch.float32),
        ("tf32", torch.float32),
        ("bf16", torch.bfloat16),
    ):
        with autocast(name, "cpu"):
            assert layer(image).dtype == dtype


@pytest.fixture
def switches():
    """What torch is told of TF32 in products and in convolutions, and of trying algorithms; put back afterwards."""
    before = torch.get_float32_matmul_precision(), cudnn.allow_tf32, cudnn.benchmark
    yield lambda: (torch.get_float32_matmul_precision(), cudnn.allow_tf32, cudnn.benchmark)
    torch.set_float32_matmul_precision(before[0])
    cudnn.allow_tf32, cudnn.benchmark = before[1:]


def test_tf32_is_forbidden_in_precision_32_alone(switches):
    for precision, expected in (("32", ("highest", False)), ("tf32", ("high", True)), ("bf16", ("high", True))):
        set_up(precision, "cuda", benchmark=False)
        assert switches() == (*expected, False)


def test_nothing_is_set_for_other_devices(switches):
    before = switches()
    for device in ("cpu", "mps"):
        set_up("tf32", device, benchmark=not before[2])
        set_up("32", device, benchmark=not before[2])
    assert switches() == before


def test_a_training_lets_cudnn_try_its_algorithms(switches, tmp_path):
    with suppress(MisconfigurationException):  # Lightning's, where there is no GPU; it comes afterwards
        make_trainer(TrainerSpec(epochs=1, batch_size=1, precision="bf16"), [], "cuda", tmp_path)
    assert switches() == ("high", True, True)


def test_each_prediction_computes_in_its_own_precision(switches, monkeypatch):
    """Members of an ensemble and stages of a cascade take turns, and do not try algorithms."""
    monkeypatch.setattr(fold_model, "set_up", lambda precision, device, **more: set_up(precision, "cuda", **more))
    member = fold_model.FoldModel(Path("x"), torch.nn.Conv2d(1, 1, 1), {})
    views, images = (
        Views(DataSpec(name="x", root="x", classes=("a",), size=32)),
        torch.zeros(1, 32, 32, dtype=torch.uint8),
    )
    for precision, expected in (("32", ("highest", False)), ("tf32", ("high", True)), ("32", ("highest", False))):
        fold_model.mean_probabilities([member], views, images, 0.5, 0.25, precision)
        assert switches() == (*expected, False)
