"""External images whose annotations lack classes: what is not annotated is no background."""

import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import yaml

from bonepipe.cli import main
from bonepipe.config import conf_dir
from bonepipe.data import corrections
from bonepipe.data.augment import Augmentation
from bonepipe.data.catalog import external_images, train_images
from bonepipe.data.datamodule import FoldDataModule
from bonepipe.data.spec import DataSpec, External
from bonepipe.data.store import amendments, key, open_store
from bonepipe.labels import bitplane
from bonepipe.models.outputs import Outputs
from bonepipe.training import losses
from bonepipe.training.module import pixel_weights
from bonepipe.training.presence import Crops
from bonepipe.training.weights_file import read_facts

KNOWN = ("Right Lung", "Airways")
LACKING = [0, 2, 4]  # of the five classes of the chests
PRESENT = [1, 3]


@pytest.fixture(scope="module")
def more(chest_root, tmp_path_factory):
    """The chests once more under other names, upside down: copies would not be trained on; two patients."""
    root = tmp_path_factory.mktemp("more")
    for path in sorted(path for path in (chest_root / "train").rglob("case0[01]/*") if path.is_file()):
        target = root / path.relative_to(chest_root).with_name(f"more{path.name}")
        target.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".png":
            cv2.imwrite(str(target), cv2.imread(str(path), cv2.IMREAD_UNCHANGED)[::-1])
        else:
            shutil.copy(path, target)
    return root


@pytest.fixture(scope="module")
def spec(chest_root, more):
    classes = tuple(yaml.safe_load((conf_dir() / "data/chest.yaml").read_text())["classes"])
    external = External(root=str(more), prefix="more", classes=KNOWN)
    swaps = {"horizontal": [("Left Lung", "Right Lung")]}
    return DataSpec(
        name="chest", root=str(chest_root), classes=classes, size=64, metadata=None, external=(external,), swaps=swaps
    )


@pytest.fixture(scope="module")
def images(spec):
    return [*train_images(spec), *external_images(spec)]


@pytest.fixture(scope="module")
def store(spec, images, tmp_path_factory):
    return open_store(images, spec, tmp_path_factory.mktemp("store"))


def first_external(images):
    return next(index for index, image in enumerate(images) if image.split == "external")


def test_only_classes_that_the_external_set_annotates_count(images, store):
    for index, image in enumerate(images):
        ignored = bitplane.unpack(store.ignored[index], 5)
        expected = [image.split == "external" and number in LACKING for number in range(5)]
        assert ignored.all((0, 1)).tolist() == expected
        assert ignored.any((0, 1)).tolist() == expected


def external_batch(images, store):
    """A batch of one external image, as it is."""
    index = first_external(images)
    return {key: torch.from_numpy(np.array(getattr(store, key)[index : index + 1])) for key in ("planes", "ignored")}


LOSSES = [
    losses.BinaryCrossEntropy(), losses.Focal(), losses.DiceFocal(), losses.Dice(), losses.BCEDice(),
    losses.DiceTopK(k=0.3), losses.Jaccard(), losses.Tversky(), losses.Lovasz(),
    losses.DiceFocal(label_smoothing=0.1),
]  # fmt: skip


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: f"{type(loss).__name__}-{loss.label_smoothing}")
def test_a_class_that_is_not_annotated_has_no_gradient_and_the_others_theirs(images, store, loss):
    """The others' gradient is that of a loss which knows their two planes alone."""
    batch = external_batch(images, store)
    targets = bitplane.unpack_torch(batch["planes"], 5)
    logits = torch.randn(1, 5, 64, 64, generator=torch.Generator().manual_seed(1)).requires_grad_()
    loss(logits, targets, pixel_weights(batch, 5)).backward()
    assert not logits.grad[:, LACKING].any()
    alone = logits.detach()[:, PRESENT].requires_grad_()
    loss(alone, targets[:, PRESENT]).backward()
    assert alone.grad.abs().max() > 0
    torch.testing.assert_close(logits.grad[:, PRESENT], alone.grad, rtol=1e-5, atol=1e-9)


def test_the_head_for_presence_learns_nothing_of_these_classes(images, store):
    batch = external_batch(images, store)
    presence = torch.zeros(1, 5, requires_grad=True)
    answer = Outputs((torch.zeros(1, 5, 64, 64),), presence)
    losses.Dice()(answer, bitplane.unpack_torch(batch["planes"], 5), pixel_weights(batch, 5)).backward()
    assert (presence.grad[0] != 0).tolist() == [number in PRESENT for number in range(5)]


@pytest.mark.parametrize("flipped", [False, True])
def test_a_border_that_augmentation_brings_into_view_does_not_count_either(spec, images, store, stored_cohort, flipped):
    """Shrunk and turned; a flip makes the left lung the right one, in what counts as well."""
    index = first_external(images)
    shrink = {"name": "Affine", "scale": [0.5, 0.5], "rotate": [20, 20], "p": 1.0}
    recipe = Augmentation(spec, transforms=[{"name": "HorizontalFlip", "p": float(flipped)}, shrink])
    cohort = stored_cohort(store, [index, 0], [0])
    data = FoldDataModule(cohort, 0, recipe, batch_size=2, workers=0, seed=1)
    data.setup("fit")
    (batch,) = data.train_dataloader()
    lacking = [1, 2, 4] if flipped else LACKING
    for number, planes in zip(batch["index"].tolist(), batch["ignored"].numpy(), strict=True):
        counted = (~bitplane.unpack(planes, 5)).any((0, 1))
        assert counted.tolist() == [number != index or label not in lacking for label in range(5)]


def test_a_classifier_does_not_take_what_is_not_annotated_for_absent(spec, images, store):
    crops, index = Crops(store, Augmentation(spec), (32, 32), 0.9), first_external(images)
    items = [crops[index, seed] for seed in range(10)]
    known, shown = (np.array([item[key] for item in items]) for key in ("known", "present"))
    assert (known[:, PRESENT] == 1).all()
    assert not shown[:, PRESENT].all()
    assert (known[:, LACKING] == shown[:, LACKING]).all()
    assert not shown[:, LACKING].all()
    assert all(crops[0, seed]["known"].all() for seed in range(3))


def test_a_mask_from_a_correction_makes_a_class_known(spec, images, tmp_path):
    name = images[first_external(images)].name
    path = tmp_path / "corrections.csv"
    corrections.write(path, [(name, "Left Lung", "replace", "3 4", "drawn later"), (name, "Airways", "drop", "", "")])
    mended = amendments(images, replace(spec, corrections=str(path)))[name]
    assert mended.ignored == {2, 3, 4}
    rows = [(name, "Left Lung", "permute", "Right Lung", ""), (name, "Right Lung", "permute", "Left Lung", "")]
    corrections.write(path, rows)
    assert amendments(images, replace(spec, corrections=str(path)))[name].ignored == {1, 2, 4}


def test_the_store_depends_on_which_classes_are_annotated(spec, images, more, tmp_path):
    other = [replace(image, annotated=("Airways",) if image.split == "external" else None) for image in images]
    plain = [replace(image, annotated=None) for image in images]
    assert len({key(these, spec, tmp_path) for these in (images, other, plain)}) == 3


def test_masks_in_place_of_annotations_are_of_all_classes(spec, images, tmp_path):
    path = tmp_path / "masks.csv"
    rows = [f"{image.name},{label},\n" for image in images for label in spec.classes]
    path.write_text("image_name,class,rle\n" + "".join(rows))
    assert not any(one.ignores for one in amendments(images, replace(spec, masks=str(path))).values())


def test_two_steps_with_such_an_external_set_from_the_command_line(chest_root, more, tmp_path, monkeypatch, capsys):
    conf = Path("conf").resolve()
    monkeypatch.chdir(tmp_path)
    (tmp_path / "conf").symlink_to(conf)
    external = f"data.external=[{{root: {more}, prefix: more, classes: [Right Lung, Airways]}}]"
    words = [
        "train", "experiment=chest", f"data.root={chest_root}", "data.size=64", "folds.count=2", "tracking=none",
        "device=cpu", "trainer.epochs=1", "trainer.validate_every=1", "trainer.train_batches=2", "trainer.workers=0",
        "model.presence=true", "mixing=cutmix",
    ]  # fmt: skip
    assert main([*words, external.replace("Airways", "airway"), "name=wrong"]) == 2
    assert "unknown class 'airway'; did you mean 'Airways'?" in capsys.readouterr().err
    assert main([*words, external]) == 0
    folder = tmp_path / "runs" / "chest" / "fold-0"
    assert (folder / "oof_dice.csv").is_file()
    assert len(read_facts(folder / "weights.safetensors")["usual"]["picture"]) == 32 * 32
    assert "more" not in (folder / "oof_dice.csv").read_text()
    (stored,) = [path for path in (tmp_path / "runs" / ".store").iterdir() if path.is_dir()]
    assert np.load(stored / "ignored.npy").any((1, 2, 3)).sum() == 4
    assert main([*words, external.replace(", Airways", "")]) == 1
    assert "data.external" in capsys.readouterr().err
