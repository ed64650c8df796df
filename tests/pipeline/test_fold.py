"""Modes of `bonepipe train` that change what is trained on, or what from."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from bonepipe.cli import main
from bonepipe.config import compose
from bonepipe.errors import BonepipeError
from bonepipe.pipeline.experiment import Experiment
from bonepipe.pipeline.fold import _checked, copy_notes, encoder_start
from bonepipe.training.weights_file import read_facts


@pytest.fixture
def words(phantom_root, tmp_path, monkeypatch):
    """Overrides for a training of seconds, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    return [
        "experiment=debug", f"data.root={phantom_root}", "folds.count=2", "device=cpu", "trainer.epochs=1", "tta=none",
        "model.encoder=tu-mobilenetv3_small_050", "model.settings.decoder_channels=[16,8,8,8,8]",
    ]  # fmt: skip


def test_overfitting_trains_and_validates_on_the_same_images(words, monkeypatch):
    seen = {}

    def look(module, data, *given, **named):
        data.setup("fit")
        data.sampler.set_epoch(5)
        seen["training"] = [index for index, _ in data.sampler]
        seen["again"] = list(data.sampler)
        data.sampler.set_epoch(6)
        seen["validation"], seen["other"] = data.split[1], list(data.sampler)
        raise KeyboardInterrupt

    monkeypatch.setattr("bonepipe.training.fit.train_fold", look)
    assert main(["train", *words, "trainer.overfit_batches=1", "trainer.batch_size=3"]) == 130
    assert sorted(seen["training"]) == sorted(seen["validation"])
    assert len(seen["training"]) == 3
    assert seen["again"] == seen["other"]


@pytest.mark.parametrize(
    ("error", "code", "tracked"), [(BonepipeError("bad data"), 1, 1), (KeyboardInterrupt(), 130, 255)]
)
def test_a_fold_that_fails_or_is_stopped_is_tracked_so(words, monkeypatch, wandb_records, error, code, tracked):
    def fail(*given, **named):
        raise error

    monkeypatch.setattr("bonepipe.training.fit.train_fold", fail)
    assert main(["train", *words, "name='손뼈'", "tracking=wandb", "tracking.mode=offline"]) == code
    (part,) = Path("runs/손뼈/wandb").glob("offline-run-*")
    assert [record.exit.exit_code for record in wandb_records(part) if record.HasField("exit")] == [tracked]


@pytest.mark.parametrize("word", ["tracking.mode=bogus", "tracking.project=a/b"])
def test_tracking_that_cannot_be_is_refused_before_anything_is_written(words, word, capsys):
    assert main(["train", *words, "tracking=wandb", word]) == 2
    assert word.partition("=")[2] in capsys.readouterr().err
    assert not Path("runs/debug").exists()


def test_a_fraction_of_the_patients_trains_and_all_validate(words):
    experiment = Experiment(compose([*words, "trainer.fraction=0.5"]))
    training, validation = experiment.cohort.indices(0)
    light, same = experiment.datamodule(0).split
    everybody = {experiment.cohort.images[index].patient for index in training}
    chosen = {experiment.cohort.images[index].patient for index in light}
    assert len(chosen) == int(np.ceil(len(everybody) / 2))
    assert light == [index for index in training if experiment.cohort.images[index].patient in chosen]
    assert len(validation) > 0
    assert same == validation


def test_pictures_that_are_there_twice_are_told_and_left_out(words, phantom_root, tmp_path):
    """A test image that is a train image, pseudo-labelled; and a patient's image under another patient."""
    root = shutil.copytree(phantom_root, tmp_path / "data")
    here = Experiment(compose([*words, f"data.root={root}"]))
    (training, validation), images = here.cohort.indices(0), here.cohort.images
    assert copy_notes(here, 0) == []
    test = sorted((root / "test" / "DCM").rglob("*.png"))[0]
    shutil.copy(images[training[1]].path, test)
    shutil.copy(images[validation[0]].path, images[training[0]].path)
    rows = [f"{test.name},{label},," for label in here.data.classes]
    (tmp_path / "pseudo.csv").write_text("\n".join(["image_name,class,rle,ambiguous", *rows]))
    again = Experiment(compose([*words, f"data.root={root}", f"data.pseudo={tmp_path / 'pseudo.csv'}"]))
    copied, leaked = copy_notes(again, 0)
    assert copied.startswith("1 external or pseudo-labelled images show the same pictures as the dataset's own and")
    assert copied.endswith(f"({test.name} = {images[training[1]].name})")
    assert leaked.startswith(
        "warning: 1 images that fold 0 is validated on show the same pictures as images that it is"
    )
    assert f"({images[validation[0]].name} = {images[training[0]].name})" in leaked
    assert again.cohort.indices(0) == (training, validation)


def test_a_frozen_encoder_without_weights_is_warned_of_and_stays_as_it_was(words, capsys):
    assert main(["train", *words, "transfer=frozen", "optimizer.lookahead=true", "averaging=swa"]) == 0
    told = capsys.readouterr().err
    assert told.count("warning: transfer=frozen freezes an encoder without pretrained weights") == 1
    assert told.count("warning: averaging.start=0.75 of trainer.epochs=1 never begins to average") == 1
    assert re.search(r"predicts with its best epoch \(1\), Dice .*; averaging never began \(training ended", told)
    chosen = read_facts(Path("runs/debug/fold-0/weights.safetensors"))["chosen"]
    assert chosen["other"] == "averaging never began (training ended after epoch 1)"
    trained = load_file("runs/debug/fold-0/weights.safetensors")
    experiment = Experiment(compose([*words, "transfer=frozen"]))
    torch.manual_seed(0)
    start = experiment.module(0).model.state_dict()
    for key, value in trained.items():
        if ".encoder." in key:
            assert torch.equal(value, start[key]), key
    assert any(not torch.equal(value, start[key]) for key, value in trained.items() if ".decoder." in key)


LITE = "encoder tu-mobilenetv3_small_050 starts from "


class Killed(BaseException):
    """The end of the process."""


def kill(*_):
    raise Killed


def test_a_fold_tells_what_its_encoder_starts_from(words, capsys, monkeypatch):
    """Weights drawn anew, or those of the checkpoint that a run left where it was killed."""
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr("bonepipe.training.fit.save_weights", kill)
        main(["train", *words])
    started = capsys.readouterr().err
    assert f"{LITE}random weights (model.encoder_weights=null)" in started
    assert "goes on" not in started
    assert main(["train", *words]) == 0
    resumed = capsys.readouterr().err
    assert "runs/debug/fold-0: goes on from last.ckpt" in resumed
    assert LITE not in resumed


def test_what_a_training_goes_on_from_stays_until_its_fold_is_done(words, monkeypatch):
    """And is removed by the next call where one was killed just then, or an earlier version kept it."""
    checkpoint = Path("runs/debug/fold-0/last.ckpt")
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr("bonepipe.pipeline.fold._report", kill)
        main(["train", *words])
    assert checkpoint.is_file()
    assert main(["train", *words]) == 0
    assert not checkpoint.exists()
    before = read_facts(checkpoint.with_name("weights.safetensors"))
    checkpoint.write_bytes(b"kept by an earlier version")
    assert main(["train", *words]) == 0
    assert not checkpoint.exists() and read_facts(checkpoint.with_name("weights.safetensors")) == before


@pytest.mark.parametrize(
    ("model", "line"),
    [
        (["model=effunet"], "encoder efficientnet-b0 starts from the pretrained weights imagenet"),
        (["model=hrnet_w18"], "encoder hrnet_w18 starts from the pretrained weights imagenet"),
        (["model=segnet"], "encoder of segnet starts from the pretrained weights imagenet"),
        (["model=unet3plus"], "encoder of unet3plus starts from random weights (model.encoder_weights=null)"),
    ],
)
def test_the_start_names_encoder_and_weights(model, line):
    assert encoder_start(compose(["~experiment", *model])["model"]) == line


def test_settings_of_the_experiment_that_stay_with_another_option_are_told(words, capsys):
    plain = [word for word in words if not word.startswith("model.")]
    assert main(["train", *plain, "experiment=debug", "model=mobile_unet", "windows=sliding", "windows.window=96"]) == 2
    line = "experiment=debug sets model.encoder_weights=null, also with model=mobile_unet, whose own is imagenet"
    assert line in capsys.readouterr().err


def test_from_scratch_with_pretrained_weights_is_refused(words, capsys):
    assert main(["train", *words, "transfer=scratch", "model.encoder_weights=imagenet"]) == 2
    assert "model.encoder_weights=null" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        (["model.encoder=resnet19"], "unknown encoder 'resnet19'; did you mean 'resnet18'?"),
        (["loss=dice_topk", "loss.k=0"], "loss.k=0: input should be greater than 0"),
        (["windows=sliding", "windows.window=96"], "windows.window=96: larger than the image, 64 pixels"),
        (
            ["augment=flip", "augment.transforms=[{name: HorizontalFlpi}]"],
            "no 'HorizontalFlpi'; did you mean 'HorizontalFlip'?",
        ),
        (
            ["augment=flip", "augment.transforms=[{name: Affine, rotat: 3}]"],
            "Affine takes no 'rotat'; did you mean 'rotate'?",
        ),
        (["tta.transforms=[{name: HorizontalFlp}]"], "no view 'HorizontalFlp'; did you mean 'HorizontalFlip'?"),
        (["transfer.mode=frozn"], "transfer.mode='frozn': input should be"),
        (["+data.swaps.horizontal=[[Radis,Ulna]]"], "unknown class 'Radis'; did you mean 'Radius'?"),
        (["optimizer=adamx"], "optimizer has no option 'adamx'; did you mean 'adam'?"),
        (["optimizer.lr=-1"], "optimizer.lr=-1: input should be greater than 0"),
        (["optimiser=adam"], "no such key 'optimiser'; did you mean 'optimizer'?"),
    ],
)
def test_a_wrong_setting_is_refused_with_the_reason_and_leaves_no_run_behind(words, capsys, wrong, reason):
    """Else the mended command would be refused for the settings of the wrong one."""
    assert main(["train", *words, *wrong]) == 2
    assert reason in capsys.readouterr().err
    assert not Path("runs/debug/fold-0/config.yaml").exists()
    assert not Path("runs/debug/fold-0/fingerprint.json").exists()


SCALED = "tta.transforms=[{name: Scale, scales: [0.9, 1.3]}]"


def recipe(name, arguments):
    """Words that augment with one transform alone."""
    return "augment=flip", f"augment.transforms=[{{name: {name}, {arguments}}}]"


@pytest.mark.parametrize(
    ("augment", "views", "unseen"),
    [
        (
            recipe("Affine", "rotate: [-30, 30]"),
            SCALED,
            "Scale, which the model did not see in training (it saw images as they",
        ),
        (recipe("Affine", "scale: [0.8, 1.2], p: 0"), SCALED, "Scale, which"),
        (
            recipe("Affine", "scale: [0.8, 1.2]"),
            SCALED,
            "Scale 1.3, which the model did not see in training (it saw Scale 0.8 to",
        ),
        (
            recipe("RandomBrightnessContrast", "brightness_limit: 0"),
            "tta.transforms=[{name: Add, values: [0.1]}]",
            "Add, which",
        ),
        (
            recipe("RandomBrightnessContrast", "brightness_limit: 0"),
            "tta.transforms=[{name: Multiply, factors: [1.1]}]",
            "Multiply, which",
        ),
        (["augment=none"], "tta=flip", "HorizontalFlip, which"),
        (["augment=geometric"], "tta=twelve", "VerticalFlip, which"),
    ],
)
def test_views_that_the_recipe_does_not_show_are_refused_before_training(words, capsys, augment, views, unseen):
    assert main(["train", *words, *augment, views]) == 1
    message = capsys.readouterr().err
    assert f"augment: tta.transforms has {unseen}" in message
    assert "use tta=none, or tta.force=true to try all the same" in message
    assert not Path("runs/debug/fold-0/config.yaml").exists()


def test_the_weights_tell_what_the_model_saw(words, capsys):
    """Views within it are predicted with; others are refused by name, and not if they are forced."""
    assert main(["train", *words, *recipe("Affine", "scale: [0.8, 1.2]"), SCALED.replace("1.3", "1.1")]) == 0
    path = Path("runs/debug/fold-0/weights.safetensors")
    assert read_facts(path)["seen"] == {"Scale": [0.8, 1.2]}
    assert read_facts(path)["aspects"] == [1, 1]
    experiment = Experiment(compose([*words, SCALED]))
    with pytest.raises(BonepipeError, match=r"weights\.safetensors: .* Scale 1\.3, which .*Scale 0\.8 to 1\.2"):
        experiment.fold_model(0)
    assert Experiment(compose([*words, "tta=flip", SCALED, "tta.force=true"])).fold_model(0).seen == {
        "Scale": [0.8, 1.2]
    }


def test_after_a_refusal_the_mended_command_trains(words):
    assert main(["train", *words, "model.encoder=resnet19"]) == 2
    assert main(["train", *words]) == 0


def test_a_training_that_breaks_down_fails_and_the_mended_command_trains(words, capsys):
    words = [*words, "trainer.train_batches=2"]
    assert main(["train", *words, "optimizer.lr=1e9", "optimizer.weight_decay=1e9"]) == 1
    message = capsys.readouterr().err.splitlines()[-1]
    assert message.startswith("bonepipe train: fold 0: broke down in epoch 1: ")
    assert "is not finite" in message and "lower optimizer.lr" in message
    folder = Path("runs/debug/fold-0")
    assert not [path.name for path in folder.iterdir() if not path.name.startswith(".lock")]
    assert main(["train", *words, "trainer.detect_anomaly=true"]) == 0
    assert main(["train", *words]) == 0  # which looks only: it is no other training
    assert (folder / "weights.safetensors").is_file()


def test_a_balanced_sampler_says_whom_it_draws(words, capsys):
    experiment = Experiment(compose([*words, "sampler=weighted", "strata.by=[sex]", "strata.test_mix={F: 1.0}"]))
    training = experiment.datamodule(0).split[0]
    women = sum(experiment.cohort.images[index].sex == "F" for index in training)
    assert 0 < women < len(training)
    _checked(experiment, 0)
    told = capsys.readouterr().err
    assert f"sampler: {len(training)} of {len(training)} images can be drawn, the most-drawn one " in told
    assert f"F {women} images" in told and f"M {len(training) - women} images 0.25 times" in told
    assert "sampler.floor=0.25, sampler.cap=3" in told


def test_a_lone_image_is_refused_before_training(words, capsys):
    assert main(["train", *words, "data.size=32", "trainer.batch_size=1"]) == 2
    message = capsys.readouterr().err
    assert "trainer.batch_size=1" in message
    assert "32x32" in message
    assert not Path("runs/debug/fold-0/last.ckpt").exists()
