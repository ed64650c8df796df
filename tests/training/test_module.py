"""The Lightning module by itself: its steps, its checkpoints, its schedule."""

import math
from dataclasses import replace

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from torch.optim.lr_scheduler import LambdaLR

from bonepipe.errors import BonepipeError
from bonepipe.labels import upsample
from bonepipe.training import mixing
from bonepipe.training.losses import BinaryCrossEntropy, Dice
from bonepipe.training.module import SegmentationModule

NODES = {
    "model": {
        "_target_": "bonepipe.models.factory.smp_model", "architecture": "Unet", "encoder": "tu-mobilenetv3_small_050",
        "encoder_weights": None, "settings": {"decoder_channels": [8, 8, 8, 8, 8]},
    },
    "loss": {"_target_": "bonepipe.training.losses.Dice", "smooth": 2.0},
    "optimizer": {"_target_": "bonepipe.training.optim.sgd", "lr": 0.1},
    "scheduler": {"_target_": "bonepipe.training.optim.cosine", "warmup": 0.25},
    "mixing": {"_target_": "bonepipe.training.mixing.CutMix", "p": 0.5},
}  # fmt: skip
FACTS = {"classes": ("Radius", "Ulna"), "mean": 0.3, "std": 0.2, "seed": 7}


def trainer_in(folder, epochs=1, **more):
    return pl.Trainer(
        accelerator="cpu", max_epochs=epochs, logger=False, default_root_dir=folder, enable_progress_bar=False,
        enable_model_summary=False, **{"enable_checkpointing": False, **more},
    )  # fmt: skip


def test_parts_are_built_from_their_nodes():
    module = SegmentationModule(**NODES, **FACTS)
    assert module.loss == Dice(smooth=2.0)
    assert module.mixing == mixing.CutMix(p=0.5)
    assert module(torch.zeros(2, 1, 64, 32)).shape == (2, 2, 64, 32)


def test_a_checkpoint_builds_the_same_module_again_from_plain_values(make_store, make_data, same_weights, tmp_path):
    """Weights-only loading trusts nothing but tensors and plain values; pretrained weights are not fetched again."""
    module = SegmentationModule(**NODES, **FACTS, hold=0.5)
    trainer = trainer_in(tmp_path)
    trainer.fit(module, datamodule=make_data(make_store(6, size=(32, 32))))
    trainer.save_checkpoint(tmp_path / "whole.ckpt")
    again = SegmentationModule.load_from_checkpoint(tmp_path / "whole.ckpt", weights_only=True)
    assert same_weights(again.state_dict(), module.state_dict())
    assert dict(again.hparams) == {**NODES, **FACTS, "compiled": False, "hold": 0.5}


def test_a_checkpoint_asks_for_no_pretrained_weights(monkeypatch):
    """The encoder's first weights are those of the file that is loaded anyway."""
    asked = []
    monkeypatch.setattr(
        "bonepipe.training.module.configs.build", lambda config, *_: asked.append(config) or torch.nn.ReLU()
    )
    module = SegmentationModule(**{**NODES, "model": {**NODES["model"], "encoder_weights": "imagenet"}}, **FACTS)
    assert asked[0]["model"]["encoder_weights"] == "imagenet"
    assert module.hparams["model"] == NODES["model"]


def test_parts_that_were_handed_in_have_to_be_handed_in_again(
    make_store, make_data, make_module, same_weights, tmp_path
):
    module, trainer = make_module(norm=True), trainer_in(tmp_path)
    trainer.fit(module, datamodule=make_data(make_store(6)))
    trainer.save_checkpoint(tmp_path / "whole.ckpt")
    parts = {"loss": BinaryCrossEntropy(), "optimizer": NODES["optimizer"], "scheduler": NODES["scheduler"]}
    again = SegmentationModule.load_from_checkpoint(
        tmp_path / "whole.ckpt", weights_only=True, model=make_module(norm=True).model, **parts
    )
    assert same_weights(again.state_dict(), module.state_dict())
    assert again.seed == 7
    with pytest.raises(TypeError, match="'model'"):
        SegmentationModule.load_from_checkpoint(tmp_path / "whole.ckpt", weights_only=True, **parts)


def test_validation_and_test_log_dice_by_class_and_prediction_gives_probabilities(
    make_store, make_data, make_module, tmp_path
):
    store, module = make_store(9), make_module(bias=0.1)
    loader = make_data(store, held_out=5).val_dataloader()
    (logged,) = trainer_in(tmp_path).validate(module, loader, verbose=False)
    (tested,) = trainer_in(tmp_path).test(module, loader, verbose=False)
    maps = torch.cat(trainer_in(tmp_path).predict(module, loader))
    assert maps.dtype == torch.float32
    assert maps.shape == (5, 2, *store.images.shape[1:])
    images = torch.from_numpy(np.array(store.images[4:])).float()[:, None]
    expected = module.model((images / 255 - 0.3) / 0.2).detach().sigmoid()
    torch.testing.assert_close(maps, expected, rtol=0, atol=1e-5)
    rows = [
        upsample.dice_scores(upsample.cutouts(one.numpy(), [0.5] * 2, store.shape(index)), store.truth(index))
        for index, one in enumerate(maps, 4)
    ]
    means = np.mean(rows, 0)
    for stage, found in (("val", logged), ("test", tested)):
        names = [f"{stage}/dice", f"{stage}/dice/Radius", f"{stage}/dice/Ulna"]
        assert [found[name] for name in names] == pytest.approx([means.mean(), *means])
        assert len(found) == 3


def test_validation_looks_at_the_image_and_not_at_what_pads_it(make_store, make_data, make_module, tmp_path):
    """A store of wide images in tall frames: only the rows in the middle come back to the image's size."""
    store = replace(make_store(6, size=(48, 20), original=(40, 36)), fit="pad")
    loader, module = make_data(store, held_out=4).val_dataloader(), make_module(bias=0.1)
    (logged,) = trainer_in(tmp_path).validate(module, loader, verbose=False)
    maps = torch.cat(trainer_in(tmp_path).predict(module, loader)).numpy()[:, :, 13:-13]  # 22 rows: 20 / 36 of 40
    masks = [upsample.cutouts(of_image, [0.5] * 2, (40, 36)) for of_image in maps]
    rows = [upsample.dice_scores(mask, store.truth(index)) for index, mask in enumerate(masks, 2)]
    assert logged["val/dice"] == pytest.approx(np.mean(rows))


@pytest.mark.parametrize(
    ("images", "batch_size", "accumulate", "batches", "steps"),
    [(22, 2, 4, None, 3), (8, 4, 1, None, 2), (9, 4, 1, None, 3), (9, 2, 2, 3, 2)],
)
@pytest.mark.parametrize(("hold", "epoch"), [(0.5, 2), (0.6, 2), (0.0, 0), (1.0, 4), (None, None)])
def test_the_rate_is_held_from_the_first_step_of_an_epoch(
    make_store, make_data, make_module, tmp_path, images, batch_size, accumulate, batches, steps, hold, epoch
):
    """Steps an epoch: its batches, where they are limited no more than that, over those of a step, rounded up."""
    assert steps == math.ceil(min(math.ceil(images / batch_size), batches or images) / accumulate)
    given = []

    def schedule(optimizer, total, held):
        given.append((total, held))
        return LambdaLR(optimizer, lambda step: 1.0)

    trainer = trainer_in(
        tmp_path, 4, accumulate_grad_batches=accumulate, limit_train_batches=batches, limit_val_batches=0
    )
    data = make_data(make_store(images), batch_size=batch_size, held_out=0)
    trainer.fit(make_module(schedule=schedule, hold=hold), datamodule=data)
    assert given == [(4 * steps, None if epoch is None else epoch * steps)]
    assert trainer.global_step == 4 * steps


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("when", ["epoch", "validation"])
def test_a_plain_trainer_resumes_to_the_very_weights_of_three_epochs_in_one_go(
    make_store, make_data, make_module, same_weights, tmp_path, workers, when
):
    """Checkpoints of Lightning's own callback, at the end of the epoch or of its validation."""
    network, store = {"momentum": 0.9, "dropout": 0.3}, make_store(10)
    schedule = {"schedule": lambda optimizer, steps, hold: LambdaLR(optimizer, lambda step: 0.9**step)}

    def fit(epochs, checkpoint=None):
        keep = ModelCheckpoint(tmp_path, "{epoch}", save_top_k=-1, save_on_train_epoch_end=when == "epoch")
        module = make_module(**network, **schedule)
        trainer = trainer_in(tmp_path, epochs, callbacks=[keep], enable_checkpointing=True)
        data = make_data(store, batch_size=3, workers=workers)
        trainer.fit(module, datamodule=data, ckpt_path=checkpoint, weights_only=True)
        assert trainer.current_epoch == epochs
        return module.state_dict()

    fit(1)
    resumed = fit(3, tmp_path / "epoch=0.ckpt")
    assert same_weights(resumed, fit(3))


def test_a_validation_of_numbers_that_are_not_finite_is_no_dice_of_nothing(
    make_store, make_data, make_module, tmp_path
):
    module, data = make_module(), make_data(make_store(6))
    module.model.last.bias.data[1] = torch.nan
    trainer = pl.Trainer(accelerator="cpu", logger=False, default_root_dir=tmp_path, enable_progress_bar=False)
    with pytest.raises(BonepipeError, match=r"validation: probabilities are not finite.*trainer\.precision=32"):
        trainer.validate(module, datamodule=data, verbose=False)


def test_a_checkpoint_is_validated_without_training_data(make_store, make_data, make_module, tmp_path):
    data, trainer = make_data(make_store(6)), trainer_in(tmp_path)
    trainer.fit(make_module(), datamodule=data)
    trainer.save_checkpoint(tmp_path / "whole.ckpt")
    assert trainer.datamodule.state_dict() == {"epoch": 1}
    del data.sampler, data.training
    (logged,) = trainer_in(tmp_path).validate(
        make_module(lr=0.5), datamodule=data, ckpt_path=tmp_path / "whole.ckpt", weights_only=True, verbose=False
    )
    assert logged["val/dice"] == pytest.approx(float(trainer.callback_metrics["val/dice"]))
