import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from bonepipe.config import build, compose
from bonepipe.data.phantom.dataset import write_dataset
from bonepipe.data.spec import External
from bonepipe.data.synthetic import MARK, is_synthetic


@pytest.fixture
def spec(phantom_root, tmp_path):
    """A copy of the phantom that may be changed, under another name."""
    shutil.copytree(phantom_root, tmp_path / "hands of ours")
    return replace(build(compose(["experiment=demo"]), "data"), root=str(tmp_path / "hands of ours"))


def first_image(spec):
    return min((spec.path / spec.train_images).rglob("*.png"))


def test_the_phantom_and_its_copy_are_synthetic(spec, phantom_root):
    assert is_synthetic(spec)
    assert is_synthetic(replace(spec, root=str(phantom_root)))


@pytest.mark.parametrize(
    "change",
    [
        lambda spec: (spec.path / MARK).unlink(),
        lambda spec: (spec.path / MARK).write_text("{"),
        lambda spec: (spec.path / MARK).write_text(json.dumps(["bonepipe phantom"])),
        lambda spec: shutil.copy(first_image(spec), spec.path / spec.test_images / "ours.png"),
        lambda spec: first_image(spec).write_bytes(first_image(spec).read_bytes() + b"0"),
        lambda spec: first_image(spec).rename(first_image(spec).with_name("ours.png")),
        lambda spec: first_image(spec).unlink(),
    ],
)
def test_without_its_mark_or_with_other_images_it_is_real(spec, change):
    change(spec)
    assert not is_synthetic(spec)


def test_images_from_elsewhere_are_real(spec, tmp_path):
    elsewhere = shutil.copytree(spec.path / spec.train_images, tmp_path / "elsewhere")
    assert not is_synthetic(replace(spec, train_images=str(elsewhere)))
    assert not is_synthetic(replace(spec, train_images="../elsewhere"))


def test_one_real_external_dataset_makes_all_real(spec, tmp_path):
    more = tmp_path / "more"
    write_dataset(more, 1, 0, 64, seed=3, workers=0)
    together = replace(spec, external=(External(root=str(more)),))
    assert is_synthetic(together)
    Path(more / MARK).unlink()
    assert not is_synthetic(together)
