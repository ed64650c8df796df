"""From a config to the two Lightning classes."""

import numpy as np
import pytest
import torch

import bonepipe
from bonepipe.errors import UsageError
from bonepipe.labels import boundary


@pytest.fixture
def experiment(phantom_root, tmp_path):
    """Make the demo on the tiny phantom, with other settings."""

    def make(*words):
        fixed = ["experiment=demo", f"data.root={phantom_root}", "data.size=64", f"folds.file={tmp_path}/folds.csv"]
        return bonepipe.compose([*fixed, f"runs={tmp_path}/runs", "folds.count=2", "device=cpu", *words])

    return make


def test_the_data_module_has_the_settings_of_the_config(experiment):
    data = experiment(
        "trainer.batch_size=3", "trainer.workers=1", "trainer.fraction=0.5", "sampler=foreground", "seed=4",
        "loss.boundary={weight: 3, sigma: 2}",
    ).datamodule(1)  # fmt: skip
    assert (data.fold, data.batch_size, data.workers, data.seed, data.fraction) == (1, 3, 1, 4, 0.5)
    assert data.sampling.foreground > 0
    planes = np.zeros((9, 9, 4), np.uint8)
    planes[2:4, 2:4, 0] = 1
    assert (data.pixel_weights(planes) == boundary.weight_map(planes, 29, 3, 2)).all()
    whole = experiment("trainer.overfit_batches=2", "trainer.batch_size=3").datamodule(0)
    assert len(whole.split[0]) == 6
    assert whole.split[0] == whole.split[1]


def test_the_first_weights_depend_on_the_seed_alone(experiment, same_first_weights):
    one = experiment().module(0)
    torch.rand(5)
    assert same_first_weights(one, experiment("optimizer.lr=0.5").module(1))
    assert not same_first_weights(one, experiment("seed=5").module(0))


@pytest.fixture
def same_first_weights():
    """Whether two modules have the same weights."""
    return lambda a, b: all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True))


@pytest.mark.parametrize(("words", "hold"), [([], None), (["averaging=swa", "averaging.hold=true"], 0.75)])
def test_the_module_holds_the_rate_where_averaging_asks_for_it(experiment, words, hold):
    module = experiment(*words).module(0)
    assert module.hold == hold
    assert module.hparams["scheduler"]["_target_"] == "bonepipe.training.optim.cosine"
    assert len(module.classes) == 29


def test_words_that_are_no_settings_are_refused():
    with pytest.raises(UsageError, match=r"optimizer\.lrr"):
        bonepipe.compose(["experiment=demo", "optimizer.lrr=1"])
