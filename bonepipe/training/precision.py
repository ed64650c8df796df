"""Number formats: which one a device should compute in, and what Lightning and autocast call it."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import torch

Precision = Literal["auto", "32", 32, "bf16", "fp16"]  # an override of 32 is read as a number


def resolve(precision: Precision, device: str) -> str:
    """`auto` to bf16 on GPUs that have it, fp16 on other GPUs, else 32; `device` is `cpu`, `cuda` or `mps`."""
    if precision != "auto":
        return str(precision)
    return "32" if device != "cuda" else "bf16" if torch.cuda.is_bf16_supported() else "fp16"


def lightning_precision(precision: Precision, device: str) -> Any:
    """Lightning's name: mixed precision, in which weights stay in float32 and fp16 losses are scaled."""
    return {"32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}[resolve(precision, device)]


def autocast(precision: Precision, device: str) -> AbstractContextManager[Any]:
    """The context in which a forward pass computes in this precision."""
    name = resolve(precision, device)
    if name == "32":
        return nullcontext()
    return torch.autocast(device, {"bf16": torch.bfloat16, "fp16": torch.float16}[name])
