"""Versions of what results depend on beside settings and files: Python, this package, and those that compute."""

import platform
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, version

PACKAGES = (
    "bonepipe", "torch", "torchvision", "pytorch-lightning", "segmentation-models-pytorch", "timm", "albumentations",
    "opencv-python-headless", "numpy", "scipy", "scikit-learn", "ttach",
)  # fmt: skip


@cache
def installed() -> dict[str, str]:
    """Package -> its version here, Python's among them."""
    return {"python": platform.python_version()} | {name: _version(name) for name in PACKAGES}


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:  # another build of it, as opencv-python is one of OpenCV
        return "unknown"


def differences(versions: Mapping[str, Mapping[str, str]]) -> list[str]:
    """What was made with different versions, a line a package: `torch: 2.12.1 (fold-0, fold-1), 2.13.0 (now)`.

    Args:
        versions: what was made -> the versions that it was made with; nothing where nobody noted them.
    """
    makers: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for title, packages in versions.items():
        for package, number in packages.items():
            makers[package][number].append(title)
    return [f"{package}: {_listed(numbers)}" for package, numbers in makers.items() if len(numbers) > 1]


def _listed(makers: Mapping[str, Sequence[str]]) -> str:
    return ", ".join(f"{number} ({', '.join(titles)})" for number, titles in makers.items())
