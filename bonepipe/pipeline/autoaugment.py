"""The search of an augmentation policy on a trained fold, and its result as a file."""

from collections.abc import Iterator, Sequence
from functools import partial

from bonepipe import config as configs
from bonepipe.data.augment import Augmentation
from bonepipe.digests import digest
from bonepipe.inference.fold_model import mean_probabilities
from bonepipe.inference.tta import Views
from bonepipe.pipeline.experiment import Experiment, say
from bonepipe.pipeline.run_folder import locked
from bonepipe.pipeline.steps import Steps
from bonepipe.training import autoaugment


def search(experiment: Experiment) -> Iterator[str]:
    """Search on the config's fold, merge, and write runs/NAME/policy.yaml; yields lines that tell the result.

    Raises:
        BonepipeError: the fold is not trained, or with other settings or on other data; or somebody works there.
    """
    config, spec = experiment.config, configs.build(experiment.config, "search")
    fold = config["fold"]
    folder, path = experiment.fold_folder(fold), experiment.folder / "policy.yaml"
    Steps(experiment).refuse_stale(fold)
    evaluate = evaluation(experiment, spec)
    plain = evaluate([])
    say(f"{folder}: Dice {plain:.4f} without augmentation, at model resolution")
    facts = {"fold": fold, "weights": digest(folder / "weights.safetensors")[:16]}
    with locked(folder):  # two searches in one journal would end each other's candidates
        ranked = autoaugment.run_search(evaluate, spec, config["seed"], folder / "policy.journal", facts)
    nodes = autoaugment.merge(ranked, spec.top)
    best, last, after = ranked[0][0], ranked[min(spec.top, len(ranked)) - 1][0], evaluate(nodes)
    remarks = [
        f"Found by `bonepipe autoaugment fold={fold}` on {config['name']}: {spec.trials} candidates.",
        "Dice of the held-out images under the fold's weights:",
        f"{plain:.4f} without augmentation, {after:.4f} under this policy ({after - plain:+.4f}),",
        f"{last:.4f} to {best:.4f} under each of the {spec.top} candidates merged here.",
    ]
    autoaugment.write(path, nodes, remarks)
    yield f"{path}: {len(nodes[-1]['transforms'])} sub-policies of the best candidates, Dice {last:.4f} to {best:.4f}"
    yield f"held-out Dice {after:.4f} under the policy, {plain:.4f} without: {after - plain:+.4f}"
    yield f"use it with: name={config['name']}-searched augment=searched augment.file={path}"


def evaluation(experiment: Experiment, search: autoaugment.PolicySearch) -> autoaugment.Evaluate:
    """The score of a recipe on the fold's validation images under its trained weights, without test-time views."""
    data, fold = experiment.data, experiment.config["fold"]
    predict = partial(
        mean_probabilities, [experiment.fold_model(fold)], Views(data), mean=data.mean, std=data.std,
        precision=experiment.prediction.precision,
    )  # fmt: skip
    images = search.chosen(experiment.cohort.indices(fold)[1])
    batch_size = experiment.prediction.batch_size

    def evaluate(nodes: Sequence[autoaugment.Node]) -> float:
        augmentation = Augmentation(data, transforms=nodes)
        return autoaugment.score(
            predict, experiment.cohort.store, images, augmentation,
            seed=experiment.config["seed"], repeats=search.repeats, batch_size=batch_size,
        )  # fmt: skip

    return evaluate
