"""Number formats: which one a device should compute in, and what Lightning, autocast and cuDNN call it."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import torch

Precision = Literal["auto", "32", 32, "tf32", "bf16", "fp16"]  # an override of 32 is read as a number
BF16 = ("avx512_bf16", "amx_bf16")  # instructions of x86-64 that multiply bf16
FULL = ("32", "tf32")  # no casts; `tf32` lets a GPU round the factors of products to ten bits, `32` does not


def resolve(precision: Precision, device: str, *, training: bool = False) -> str:
    """`auto` to bf16 where the hardware has it, fp16 on other GPUs, else 32; `device` is `cpu`, `cuda` or `mps`.

    GPUs before Ampere have fp16 alone, and processors without instructions for bf16 float32 alone: what they emulate is
    slower. A processor predicts in float32 all the same: it is given few images, and answers that do not depend on what
    it can do are worth more.
    """
    if precision != "auto":
        return str(precision)
    if device == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    capabilities = torch.cpu.get_capabilities() if training and device == "cpu" else {}
    return "bf16" if any(capabilities.get(name) for name in BF16) else "32"


def lightning_precision(precision: Precision, device: str) -> Any:
    """Lightning's name for training: mixed precision, in which weights stay in float32 and fp16 losses are scaled."""
    name = resolve(precision, device, training=True)
    return "32-true" if name in FULL else {"bf16": "bf16-mixed", "fp16": "16-mixed"}[name]


def autocast(precision: Precision, device: str) -> AbstractContextManager[Any]:
    """The context in which a forward pass computes in this precision."""
    name = resolve(precision, device)
    if name in FULL:
        return nullcontext()
    return torch.autocast(device, {"bf16": torch.bfloat16, "fp16": torch.float16}[name])


def set_up(precision: Precision, device: str, *, benchmark: bool) -> None:
    """Tell cuDNN and cuBLAS what they may do on a GPU; nothing changes for other devices.

    TF32 is forbidden in precision 32 and allowed in all others, in convolutions and matrix products alike; PyTorch's
    own default allows it in convolutions alone.

    Args:
        precision: of the forward passes.
        device: `cpu`, `cuda` or `mps`.
        benchmark: whether cuDNN tries its algorithms on each new size of a layer and keeps the fastest. That pays over
            the many steps of a training, whose images have one size, and not where sizes vary or passes are few.
    """
    if device != "cuda":
        return
    exact = resolve(precision, device) == "32"
    torch.set_float32_matmul_precision("highest" if exact else "high")
    torch.backends.cudnn.allow_tf32 = not exact
    torch.backends.cudnn.benchmark = benchmark
