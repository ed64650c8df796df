"""`bonepipe train-all`: every fold, then thresholds and the cross-validation summary."""

import sys
from collections.abc import Sequence

import numpy as np

from bonepipe import config as configs
from bonepipe.commands import inputs
from bonepipe.commands import summary as summaries
from bonepipe.commands.predictor import SOURCE, Run, mask_maker, run_source, strata_settings
from bonepipe.commands.train import is_done
from bonepipe.errors import BonepipeError
from bonepipe.files import write_json
from bonepipe.inference.oof.results import MASKS
from bonepipe.inference.postprocess import crf_choice
from bonepipe.inference.postprocess.operations import ChosenOperations
from bonepipe.inference.thresholds import ThresholdChoice
from bonepipe.pipeline.experiment import HARMLESS, PREDICTION, Experiment, parse, refuse_other_settings

HELP = """usage: bonepipe train-all [OVERRIDES]

Train every fold that is not finished (executor=local: here, one a visible GPU; executor=ray: as Ray tasks), then find
from all out-of-fold predictions which classes keep the dense CRF, one threshold a class, and the repairs that each
class's masks gain from, and write thresholds.json, scores.json, examples.jpg, and the Dice at every threshold as
thresholds.png.
With thresholds.by=stratum a class may have another threshold in some strata, where that gains.
Beside the plain out-of-fold Dice stands the one weighted to the test set's mix of strata (conf/strata).

example: bonepipe train-all experiment=demo executor=ray"""


def main(arguments: Sequence[str]) -> int:
    """Train what is missing, then summarise."""
    config = parse(arguments, HELP)
    if config is None:
        return 0
    experiment = Experiment(config)
    for fold in range(experiment.folds.count):
        path = experiment.fold_folder(fold) / "config.yaml"
        refuse_other_settings(path, config, [*HARMLESS, *PREDICTION])
        inputs.refuse_changed(experiment, fold)
    strata_settings(experiment)  # which refuses what could not be done after the training
    _train_missing(experiment, arguments)
    summarise(experiment)
    return 0


def _train_missing(experiment: Experiment, overrides: Sequence[str]) -> None:
    missing = [fold for fold in range(experiment.folds.count) if not is_done(experiment, fold)]
    if not missing:
        return
    # Everything that folds share is made once, before several of them ask for it.
    _ = experiment.assignment, experiment.store, experiment.augmentation, experiment.views, experiment.windows
    _ = experiment.test_mix  # a test image that cannot be read is found before the training, not after
    own = [word for word in overrides if not word.startswith("fold=")]
    commands = [[sys.executable, "-m", "bonepipe", "train", f"fold={fold}", *own] for fold in missing]
    codes = configs.build(experiment.config, "executor").run(commands)
    failed = [fold for fold, code in zip(missing, codes, strict=True) if code]
    if failed:
        names = ", ".join(str(fold) for fold in failed)
        raise BonepipeError(
            f"{experiment.folder}: fold {names} did not finish (see above); the others are kept, and the same "
            "command goes on where they stopped"
        )


def summarise(experiment: Experiment) -> None:
    """Thresholds, scores, pictures, and a line of numbers, from the folds' files."""
    summaries.begin(experiment)
    refined, classes = _select_refined(experiment), experiment.data.classes
    run = Run(experiment)
    summary = summaries.decide(experiment, run.out_of_fold(), lambda: mask_maker(run.recall(), experiment))
    crf = experiment.postprocess.crf
    record = crf_choice.record(refined, classes, crf) if refined and crf else None
    scores = summaries.finish(
        summary, lambda name: experiment.fold_folder(experiment.assignment[name]) / MASKS, record=record
    )
    write_json(experiment.folder / SOURCE, run_source(experiment))
    _print_table(experiment, summary.choice)
    summaries.tell(summary, scores)
    summaries.tell_selection("dense CRF", refined, "at thresholds of its own")


def _select_refined(experiment: Experiment) -> ChosenOperations | None:
    """Which classes keep the CRF; the folds' own files then say so. None where there is no CRF."""
    if experiment.postprocess.crf is None:
        return None
    classes = experiment.data.classes
    folders = [experiment.fold_folder(fold) for fold in range(experiment.folds.count)]
    selection = crf_choice.choose_crf_classes(folders, classes, configs.build(experiment.config, "thresholds").margin)
    for folder in folders:
        crf_choice.merge(folder, classes, crf_choice.refined_classes(selection, classes))
    return selection


def _print_table(experiment: Experiment, choice: ThresholdChoice) -> None:
    """Classes, worst first."""
    print(f"{'class':<24} {'OOF Dice':>9} {'threshold':>9} {'gain':>8}")
    for number in np.argsort(choice.dice.mean(0)):
        dice, threshold, gain = choice.dice[:, number].mean(), choice.thresholds[number], choice.gain[number]
        print(f"{experiment.data.classes[number]:<24} {dice:9.4f} {threshold:9.3f} {gain:+8.4f}")
