"""`bonepipe autoaugment fold=K`: search an augmentation policy on a trained fold."""

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from bonepipe import config as configs
from bonepipe.commands import inputs
from bonepipe.files import digest
from bonepipe.pipeline.experiment import HARMLESS, PREDICTION, Experiment, parse, refuse_other_settings, say

if TYPE_CHECKING:
    from bonepipe.training import autoaugment

HELP = """usage: bonepipe autoaugment fold=K [search.KEY=VALUE] [OVERRIDES]

Fast AutoAugment: search the augmentation policy under which the fold's trained weights still recognise its validation
images. Nothing is trained. What was interrupted goes on (runs/NAME/fold-K/policy.journal). The result is
runs/NAME/policy.yaml, which another experiment trains with:
  bonepipe train-all experiment=EXPERIMENT name=NAME-searched augment=searched augment.file=runs/NAME/policy.yaml
The fold's validation images have chosen the policy, so that its own score is a little flattered afterwards.
Printed, and written at the head of the file, is by how much the policy beats no augmentation on these images: near or
above 0 they are still recognised, far below 0 the policy distorts more than the model has learned to bear. Whether
training gains by it, only training tells: `bonepipe compare runs/NAME runs/NAME-searched`.

Settings of the search (default):
  search.trials        candidate policies that are scored (200)
  search.subpolicies   in a candidate (5)
  search.operations    in a sub-policy (2)
  search.top           best candidates whose sub-policies are merged (10)
  search.repeats       augmented versions of an image that a candidate is scored on (1)
  search.images        validation images to score on (all)

example: bonepipe autoaugment experiment=demo fold=0 search.trials=100"""

TARGET = "bonepipe.training.autoaugment.PolicySearch"


def main(arguments: Sequence[str]) -> int:
    """Search, merge, write."""
    config = parse([word for word in arguments if not word.startswith("search.")], HELP)
    if config is None:
        return 0
    search = configs.command_settings(arguments, "search", TARGET)
    from bonepipe.training import autoaugment

    experiment, fold = Experiment(config), config["fold"]
    folder = experiment.fold_folder(fold)
    refuse_other_settings(folder / "config.yaml", config, [*HARMLESS, *PREDICTION])
    inputs.refuse_changed(experiment, fold)
    evaluate = _evaluation(experiment, fold, search)
    plain = evaluate([])
    say(f"{folder}: Dice {plain:.4f} without augmentation, at model resolution")
    facts = {"fold": fold, "weights": digest(folder / "weights.safetensors")[:16]}
    ranked = autoaugment.run_search(evaluate, search, config["seed"], folder / "policy.journal", facts)
    nodes, path = autoaugment.merge(ranked, search.top), experiment.folder / "policy.yaml"
    best, last = ranked[0][0], ranked[min(search.top, len(ranked)) - 1][0]
    found = evaluate(nodes)
    remarks = [
        f"Found by `bonepipe autoaugment fold={fold}` on {config['name']}: {search.trials} candidates.",
        "Dice of the held-out images under the fold's weights:",
        f"{plain:.4f} without augmentation, {found:.4f} under this policy ({found - plain:+.4f}),",
        f"{last:.4f} to {best:.4f} under each of the {search.top} candidates merged here.",
    ]
    autoaugment.write(path, nodes, remarks)
    print(f"{path}: {len(nodes[-1]['transforms'])} sub-policies of the best candidates, Dice {last:.4f} to {best:.4f}")
    print(f"held-out Dice {found:.4f} under the policy, {plain:.4f} without: {found - plain:+.4f}")
    print(f"use it with: name={config['name']}-searched augment=searched augment.file={path}")
    return 0


def _evaluation(experiment: Experiment, fold: int, search: "autoaugment.PolicySearch") -> "autoaugment.Evaluate":
    """The score of a recipe on the fold's validation images under its trained weights, without test-time views."""
    from bonepipe.data.augment import Augmentation
    from bonepipe.inference.fold_model import mean_probabilities
    from bonepipe.inference.tta import Views
    from bonepipe.training import autoaugment

    data, member = experiment.data, experiment.member(fold)
    predict = partial(mean_probabilities, [member], Views(data), mean=data.mean, std=data.std)
    images = search.chosen(experiment.cohort.indices(fold)[1])
    batch_size = configs.build(experiment.config, "prediction").batch_size

    def evaluate(nodes: Sequence[autoaugment.Node]) -> float:
        augmentation = Augmentation(data, transforms=nodes)
        return autoaugment.score(
            predict, experiment.cohort.store, images, augmentation,
            seed=experiment.config["seed"], repeats=search.repeats, batch_size=batch_size,
        )  # fmt: skip

    return evaluate
