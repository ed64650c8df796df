import pytest

from bonepipe import config as configs
from bonepipe.outliving import outliving

EXPERIMENTS = sorted(path.stem for path in (configs.conf_dir() / "experiment").glob("*.yaml"))
WEIGHTS = "experiment=demo sets model.encoder_weights=null, also with model=effunet, whose own is imagenet"
RATE = "experiment=demo sets optimizer.lr=0.004, also with optimizer=sgd, whose own is 0.05"


@pytest.mark.parametrize(
    ("words", "lines"),
    [
        ([], []),
        (["experiment=demo", "model=unet_resnet18", "optimizer=adamw", "averaging=ema", "loss=bce"], []),
        (["model=effunet"], [WEIGHTS]),
        (['experiment="demo"', 'model="effunet"', "optimizer=sgd"], [WEIGHTS, RATE]),
        (["model=effunet", "model.encoder_weights=imagenet", "optimizer=sgd"], [RATE]),
        (["model=unet", "optimizer=sgd", "optimizer.lr=0.01"], []),  # this network has no pretrained weights
        (["~experiment", "model=effunet"], []),
        (["experiment=effunet_512", "model=unetpp"], []),
        (
            ["experiment=effunet_512", "data=chest"],
            ["experiment=effunet_512 sets data.size=512, also with data=chest, whose own is 256"],
        ),
    ],
)
def test_what_an_experiment_sets_beyond_its_own_options_is_told(words, lines):
    assert configs.compose([*words, "data.root=x"])  # the words are good ones
    assert outliving(words) == lines


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_all_that_an_experiment_changes_in_other_options_is_told(experiment):
    """Against the options without the experiment."""
    options = ["model=segnet", "optimizer=sgd", "scheduler=polynomial", "averaging=ema"]
    plain, changed = (configs.compose([word, *options]) for word in ("~experiment", f"experiment={experiment}"))
    lines = outliving([f"experiment={experiment}", *options])
    told = {line.partition(" sets ")[2].partition("=")[0] for line in lines}
    groups = [option.partition("=")[0] for option in options]
    assert told == {f"{group}.{key}" for group in groups for key in configs.differences(plain[group], changed[group])}
