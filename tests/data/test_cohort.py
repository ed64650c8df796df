import shutil
from dataclasses import replace

import cv2
import numpy as np
import pytest

from bonepipe.data import corrections
from bonepipe.data.cohort import Cohort
from bonepipe.data.folds import FoldSpec
from bonepipe.data.sampling import SamplerSpec
from bonepipe.data.spec import External
from bonepipe.data.strata import StrataSpec
from bonepipe.errors import BonepipeError


@pytest.fixture
def cohort(chest, tmp_path):
    """The chests in two folds."""
    spec, _ = chest
    return Cohort(spec, FoldSpec(file=str(tmp_path / "folds.csv"), count=2), StrataSpec(), tmp_path / "store")


def test_store_and_index_are_in_the_order_of_the_images(cohort, tmp_path):
    names = [image.name for image in cohort.images]
    assert list(cohort.store.names) == names
    assert cohort.index == cohort.store.index == dict(zip(names, range(12), strict=True))
    assert cohort.store.folder.parent == tmp_path / "store"
    assert [image.split for image in cohort.test_images] == ["test"] * 4


def as_it_is(pixels):
    return pixels


def upside_down(pixels):
    """Another picture."""
    return pixels[::-1]


def resaved(pixels):
    """The same picture in other bytes and pixels: smaller, compressed, brighter."""
    grey = pixels if pixels.ndim == 2 else pixels[..., 0]
    grey = cv2.resize(grey if grey.dtype == np.uint8 else (grey >> 4).astype(np.uint8), (90, 90))
    bright = np.clip(grey * 1.1 + 4, 0, 255).astype(np.uint8)
    return cv2.imdecode(cv2.imencode(".jpg", bright, [cv2.IMWRITE_JPEG_QUALITY, 60])[1], cv2.IMREAD_UNCHANGED)


def wider_by(cohort, chest_root, more, change):
    """The cohort with its own train images once more as an external dataset, changed."""
    for path in (path for path in (chest_root / "train").rglob("*") if path.is_file()):
        target = more / path.relative_to(chest_root).with_name(f"more-{path.name}")
        target.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".png":
            cv2.imwrite(str(target), change(cv2.imread(str(path), cv2.IMREAD_UNCHANGED)))
        else:
            target.write_bytes(path.read_bytes())
    return replace(cohort, spec=replace(cohort.spec, external=(External(root=str(more)),)))


@pytest.mark.parametrize("change", [as_it_is, resaved])
def test_external_copies_of_own_images_train_in_no_fold(cohort, chest_root, tmp_path, change):
    wider = wider_by(cohort, chest_root, tmp_path / "more", change)
    assert wider.copied == {f"more-{image.name}": image.name for image in cohort.images}
    for fold in (0, 1):
        assert wider.indices(fold) == cohort.indices(fold)
        assert wider.leaks(fold) == []
    assert cohort.copied == {}


def test_a_validation_image_that_another_patient_trains_with_is_told(cohort, chest_root, tmp_path):
    root = shutil.copytree(chest_root, tmp_path / "data")
    (training, validation), names = cohort.indices(0), [image.path for image in cohort.images]
    source, target = (root / names[part[0]].relative_to(chest_root) for part in (validation, training))
    cv2.imwrite(str(target), resaved(cv2.imread(str(source), cv2.IMREAD_UNCHANGED)))
    twin = replace(cohort, spec=replace(cohort.spec, root=str(root)))
    assert twin.leaks(0) == [(source.name, target.name)]
    assert twin.leaks(1) == [(target.name, source.name)]
    assert twin.copied == {}
    assert cohort.leaks(0) == []


def test_external_images_train_in_every_fold_and_validate_in_none(cohort, chest_root, tmp_path):
    wider = wider_by(cohort, chest_root, tmp_path / "more", upside_down)
    assert len(wider.own_images) == 12
    assert len(wider.images) == 24
    for fold in (0, 1):
        (training, validation), (own, same) = wider.indices(fold), cohort.indices(fold)
        assert validation == same
        assert training == [*own, *range(12, 24)]


def test_a_dropped_image_validates_and_does_not_train(cohort, tmp_path):
    name = cohort.images[5].name
    path = tmp_path / "corrections.csv"
    corrections.write(path, [(name, "", "drop", "", "")])
    mended = replace(cohort, spec=replace(cohort.spec, corrections=str(path)))
    for fold in (0, 1):
        (training, validation), (whole, same) = mended.indices(fold), cohort.indices(fold)
        assert validation == same
        assert training == [index for index in whole if index != 5]


def test_patients_in_several_folds_are_warned_of(cohort, tmp_path, capsys):
    assert cohort.assignment
    assert capsys.readouterr().err == ""
    torn = replace(cohort, folds=FoldSpec(file=str(tmp_path / "torn.csv"), count=4, kind="kfold", seed=1))
    assert set(torn.assignment.values()) == {0, 1, 2, 3}
    assert "torn.csv" in (warning := capsys.readouterr().err)
    assert "patients have images in several folds (folds.kind=kfold)" in warning


def test_a_fraction_holds_whole_patients(cohort):
    training, _ = cohort.indices(0)
    half = cohort.fraction(training, 0.5, seed=3)
    patients = {cohort.images[index].patient for index in half}
    everybody = {cohort.images[index].patient for index in training}
    assert len(patients) == int(np.ceil(len(everybody) / 2))
    assert half == [index for index in training if cohort.images[index].patient in patients]
    assert cohort.fraction(training, 1.0, seed=3) == training


def test_draws_follow_the_strata(cohort):
    assert cohort.draw_weights([0, 1], SamplerSpec()) is None
    assert cohort.draw_weights([0, 1, 2], SamplerSpec(balance={"all": 3.0})).tolist() == [3.0] * 3
    with pytest.raises(BonepipeError, match=r"sampler\.balance: no training image is of the stratum bent"):
        cohort.draw_weights([0, 1], SamplerSpec(balance={"bent": 2.0}))
    assert cohort.test_mix == {"all": 1.0}


def test_a_test_set_that_is_not_there_cannot_be_balanced_by(cohort, tmp_path):
    shutil.copytree(cohort.spec.path, tmp_path / "bare", ignore=shutil.ignore_patterns("test"))
    bare = replace(cohort, spec=replace(cohort.spec, root=str(tmp_path / "bare")))
    with pytest.raises(BonepipeError, match=r"sampler\.balance=test: .*bare has no test images.*strata\.test_mix"):
        bare.draw_weights([0, 1], SamplerSpec(balance="test"))
