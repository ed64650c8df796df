"""Fast AutoAugment: an augmentation policy found without training anything anew.

A policy is good when augmented images of the held-out fold still look, to a model trained without them, like the images
that it was trained on: it segments them as well as before. So candidates are scored by predicting, not by training
(density matching: Lim, Kim, Kim, Kim and Kim, "Fast AutoAugment", NeurIPS 2019, section 3.2, algorithm 1), and Optuna's
TPE proposes them. A candidate is a set of sub-policies, each a sequence of operations with a probability and a
magnitude; the sub-policies of the best candidates together are the policy, one of them drawn for each image.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import torch
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock
from optuna.trial import BaseTrial, FixedTrial, TrialState
from tqdm import tqdm

from bonepipe.data.augment import Augmentation
from bonepipe.data.batches import Batch, TrainingImages
from bonepipe.data.loading import make_loader
from bonepipe.data.sampling import Draw
from bonepipe.data.store import Store
from bonepipe.disk import naming
from bonepipe.errors import BonepipeError, reason
from bonepipe.files import replacing
from bonepipe.labels import bitplane
from bonepipe.labels.dice import dice
from bonepipe.labels.histogram import HALF
from bonepipe.ranges import Count

FLIP = {"name": "HorizontalFlip", "p": 0.5}  # of the base augmentation, as in the paper; also what tta=flip asks for

Node = dict[str, Any]
Predict = Callable[[torch.Tensor], torch.Tensor]  # grey bytes [N, h, w] to probabilities [N, C, h, w]
Evaluate = Callable[[Sequence[Node]], float]  # a recipe's score, higher is better


def _span(limit: float, magnitude: float) -> list[float]:
    return [round(-limit * magnitude, 4), round(limit * magnitude, 4)]


# Operation -> the transform of a magnitude from 0 (next to nothing) to 1. Two-sided ones draw from the whole span.
OPERATIONS: dict[str, Callable[[float], Node]] = {
    "shift": lambda m: {"name": "Affine", "translate_percent": _span(0.2, m)},
    "rotate": lambda m: {"name": "Affine", "rotate": _span(45, m)},
    "scale": lambda m: {"name": "Affine", "scale": [round(1 - 0.4 * m, 4), round(1 + 0.4 * m, 4)]},
    "shear": lambda m: {"name": "Affine", "shear": _span(20, m)},
    "bend": lambda m: {"name": "ElasticTransform", "alpha": round(120 * m, 2), "sigma": 8},
    "distort": lambda m: {"name": "GridDistortion", "distort_limit": _span(0.5, m)},
    "brightness": lambda m: {
        "name": "RandomBrightnessContrast", "brightness_limit": _span(0.4, m), "contrast_limit": [0, 0],
    },
    "contrast": lambda m: {
        "name": "RandomBrightnessContrast", "brightness_limit": [0, 0], "contrast_limit": _span(0.4, m),
    },
    "gamma": lambda m: {"name": "RandomGamma", "gamma_limit": [round(100 - 60 * m, 2), round(100 + 80 * m, 2)]},
    "clahe": lambda m: {"name": "CLAHE", "clip_limit": [1, round(1 + 5 * m, 4)]},
    "sharpen": lambda m: {"name": "Sharpen", "alpha": [0, round(0.6 * m, 4)]},
    "blur": lambda m: {"name": "GaussianBlur", "sigma_limit": [0.1, round(0.1 + 2 * m, 4)]},
    "noise": lambda m: {"name": "GaussNoise", "std_range": [0, round(0.12 * m, 4)]},
    "posterize": lambda m: {"name": "Posterize", "num_bits": 7 - round(4 * m)},
    "cutout": lambda m: {
        "name": "CoarseDropout", "hole_height_range": [0.02, round(0.02 + 0.28 * m, 4)],
        "hole_width_range": [0.02, round(0.02 + 0.28 * m, 4)],
    },
    "gridmask": lambda m: {"name": "GridDropout", "ratio": round(0.1 + 0.5 * m, 4), "holes_number_xy": [8, 8]},
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class PolicySearch:
    """How a policy is searched. The paper's numbers are 200 trials, 5 sub-policies of 2 operations, and the best 10.

    Attributes:
        trials: candidate policies that are scored.
        subpolicies: in a candidate.
        operations: in a sub-policy, one after another.
        top: best candidates whose sub-policies are merged.
        repeats: augmented versions of an image that a candidate is scored on.
        images: validation images to score on, evenly spread, or null for all.
    """

    trials: Count = 200
    subpolicies: Count = 5
    operations: Count = 2
    top: Count = 10
    repeats: Count = 1
    images: Count | None = None

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if value is not None and value < 1:
                raise ValueError(f"search.{name}={value}: at least 1")
        if self.top > self.trials:
            raise ValueError(f"search.top={self.top}: more than search.trials={self.trials}")

    def chosen(self, indices: Sequence[int]) -> list[int]:
        """The images that are scored."""
        count = min(self.images or len(indices), len(indices))
        return [indices[position] for position in np.linspace(0, len(indices) - 1, count).round().astype(int)]


def suggest(trial: BaseTrial, search: PolicySearch) -> list[Node]:
    """Let a trial choose a candidate: one node of conf/augment a sub-policy."""
    steps = range(search.operations)
    return [
        {"name": "Sequential", "p": 1.0, "transforms": [_operation(trial, f"{number}.{step}") for step in steps]}
        for number in range(search.subpolicies)
    ]


def _operation(trial: BaseTrial, key: str) -> Node:
    name = trial.suggest_categorical(f"{key}.operation", list(OPERATIONS))
    probability = trial.suggest_float(f"{key}.probability", 0, 1)
    magnitude = trial.suggest_float(f"{key}.magnitude", 0, 1)
    return {**OPERATIONS[name](magnitude), "p": round(probability, 4)}


def one_of(subpolicies: Sequence[Node]) -> list[Node]:
    """The recipe that draws one sub-policy an image, all equally likely."""
    return [{"name": "OneOf", "p": 1.0, "transforms": list(subpolicies)}]


def score(
    predict: Predict,
    store: Store,
    indices: Sequence[int],
    augmentation: Augmentation,
    *,
    seed: int,
    repeats: Count = 1,
    batch_size: int = 8,
) -> float:
    """Mean Dice at threshold 0.5 of augmented images, each against its augmented labels, at model resolution.

    Classes that an augmented image does not show are left out of its mean, and an image that shows none is left out:
    else a policy that pushes bones over the border would score best. Where every image is, the score is 0. The same
    seed draws the same augmentations, so that candidates differ by policy alone.
    """
    seeds = np.random.default_rng(seed).integers(2**31, size=(repeats, len(indices)))
    draws: list[Draw] = [(index, int(seed)) for row in seeds for index, seed in zip(indices, row, strict=True)]
    loader = make_loader(TrainingImages(store, augmentation), batch_size, sampler=draws)
    scores = [_dice_of_present(predict(batch["image"]), batch, store.class_count) for batch in loader]
    values = torch.cat(scores)
    return float(values.mean()) if len(values) else 0.0


def _dice_of_present(probabilities: torch.Tensor, batch: Batch, classes: int) -> torch.Tensor:
    """Mean Dice, float64, over the classes that a sample's labels show, of each sample that shows any."""
    counted = {key: batch[key].to(probabilities.device) for key in ("planes", "ignored") if key in batch}
    predicted, (truth, *ignored) = (
        probabilities >= HALF,
        (bitplane.coverage_torch(planes, classes) >= HALF for planes in counted.values()),
    )
    for pixels in ignored:
        predicted, truth = predicted & ~pixels, truth & ~pixels
    overlap, area = (predicted & truth).sum((2, 3)).double(), truth.sum((2, 3)).double()
    values, present = dice(overlap, predicted.sum((2, 3)), area), area > 0
    shown = present.sum(1)
    return ((values * present).sum(1) / shown)[shown > 0].cpu()


def run_search(
    evaluate: Evaluate, search: PolicySearch, seed: int, path: Path, facts: Mapping[str, Any]
) -> list[tuple[float, list[Node]]]:
    """Score candidates until there are `search.trials`, going on where the file of trials stops.

    Every proposal depends on the seed and the trials before it, so that an interrupted search finds what a quiet one
    would have found.

    Args:
        search: how many, of what form.
        facts: what else the scores depend on (fold, weights); a journal that was begun with others is refused.

    Returns:
        Score and sub-policies of each candidate, best first.

    Raises:
        BonepipeError: the journal belongs to another search or cannot be read.
    """
    study = _open_study(path)
    _check_facts(study, path, {**asdict(search), **facts, "seed": seed})
    for stale in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):  # of a search that was killed
        study.tell(stale.number, state=TrialState.FAIL)
    done = len(study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)))
    for number in tqdm(range(done, search.trials), "policies", search.trials, initial=min(done, search.trials)):
        study.sampler = optuna.samplers.TPESampler(
            seed=int(np.random.SeedSequence((seed, number)).generate_state(1)[0])
        )
        study.optimize(lambda trial: evaluate(one_of(suggest(trial, search))), n_trials=1)
    trials = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))[: search.trials]
    ranked = sorted(trials, key=lambda trial: (-(trial.value or 0.0), trial.number))
    return [(trial.value or 0.0, suggest(FixedTrial(trial.params), search)) for trial in ranked]


class _Alone(JournalFileSymlinkLock):
    """No lock of optuna's: for one that a killed process has left, the next one would wait for ever.

    Whoever searches has locked the folder, by a lock that ends with its process.
    """

    def acquire(self) -> bool:
        """Nobody else is there."""
        return True

    def release(self) -> None:
        """Nothing was taken."""


def _open_study(path: Path) -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.ERROR)  # a trial that a signal stops is a warning with a traceback
    _drop_torn_line(path)
    try:
        storage = JournalStorage(JournalFileBackend(str(path), lock_obj=_Alone(str(path))))
        return optuna.create_study(storage=storage, study_name="policy", direction="maximize", load_if_exists=True)
    except (ValueError, KeyError) as error:  # a file that cannot be opened says so itself
        raise BonepipeError(
            f"{path}: cannot be read ({reason(error)}); put back a copy, or delete it to search anew"
        ) from error


def _drop_torn_line(path: Path) -> None:
    """Shorten a journal to its whole lines: to the one that a kill cut short optuna would add the next."""
    if not path.is_file():
        return
    with naming(path), path.open("r+b") as file:
        content = file.read()
        if not content.endswith(b"\n"):
            file.truncate(content.rfind(b"\n") + 1)


def _check_facts(study: optuna.Study, path: Path, facts: Mapping[str, Any]) -> None:
    """Scores of different models, images or forms of policy must not be compared; how many there are may change."""
    fixed = {key: value for key, value in facts.items() if key not in ("trials", "top")}
    known = study.user_attrs.get("facts", fixed)
    changed = [f"{key}: {known.get(key)!r} -> {value!r}" for key, value in fixed.items() if known.get(key) != value]
    if changed:
        raise BonepipeError(
            f"{path}: this search was begun with other settings ({'; '.join(changed)}); put them back, or delete the "
            "file to search anew"
        )
    if "facts" not in study.user_attrs:
        study.set_user_attr("facts", fixed)


def merge(ranked: Sequence[tuple[float, list[Node]]], top: int) -> list[Node]:
    """The recipe of the best candidates' sub-policies together, after the base augmentation (algorithm 1, line 13)."""
    subpolicies: list[Node] = []
    for _, candidate in ranked[:top]:
        subpolicies += [subpolicy for subpolicy in candidate if subpolicy not in subpolicies]
    return [FLIP, *one_of(subpolicies)]


def write(path: Path, nodes: Sequence[Node], remarks: Sequence[str]) -> None:
    """Write a recipe as a file that `augment=searched` reads and that may also become one of conf/augment/."""
    import yaml

    content = {"_target_": f"{Augmentation.__module__}.{Augmentation.__name__}", "transforms": list(nodes)}
    head = "".join(f"# {remark}\n" for remark in remarks)
    with replacing(path) as part:
        text = yaml.safe_dump(content, sort_keys=False, width=110, default_flow_style=None)
        part.write_text(head + text, encoding="utf-8")
