"""An ensemble whose runs are found: the weighted mean of their maps at a common resolution."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bonepipe import config as configs
from bonepipe.commands.predictor import CONFIG, ENSEMBLE, check_source, placed
from bonepipe.commands.voters import Voter, open_voters
from bonepipe.data.catalog import Radiograph
from bonepipe.errors import BonepipeError
from bonepipe.inference.ensemble import members
from bonepipe.inference.ensemble.average import Shape, average, common_shape
from bonepipe.inference.ensemble.members import Ensemble, Entry, Mean
from bonepipe.inference.oof.store import OofStore
from bonepipe.pipeline.experiment import Experiment

if TYPE_CHECKING:
    import torch

    from bonepipe.inference.oof.results import Pooled
    from bonepipe.inference.predict import Whole


@dataclass(frozen=True)
class Team:
    """An ensemble's members and its own settings.

    Attributes:
        ensemble: entries that are alike made one.
        voters: one an entry.
        experiment: the first member's settings in the ensemble's own folder, where all results go.
    """

    ensemble: Ensemble
    voters: list[Voter]
    experiment: Experiment

    @property
    def classes(self) -> Sequence[str]:
        """Class names."""
        return self.experiment.data.classes

    @cached_property
    def weights(self) -> NDArray[np.float64]:
        """`[M, C]`; those of a class add to 1."""
        return self.ensemble.weights(self.classes)

    @property
    def shape(self) -> Shape:
        """The common height and width."""
        return common_shape([voter.shape for voter in self.voters])

    @property
    def mean(self) -> Mean:
        """A single member is its own mean, to the last bit."""
        return self.ensemble.mean if len(self.voters) > 1 else "arithmetic"

    def check(self) -> None:
        """Raise BonepipeError or UsageError where a class has no member, or a setting makes no sense."""
        _ = self.weights, configs.build(self.experiment.config, "prediction")
        configs.build(self.experiment.config, "thresholds")

    def archives(self) -> list[OofStore]:
        """What each member said out of fold, predicted anew where that was in another way."""
        return [voter.archive() for voter in self.voters]

    @property
    def facts(self) -> dict[str, Any]:
        """What the dashboard shows of it beside its settings."""
        return {"mean": self.ensemble.mean, "members": [vars(entry) for entry in self.ensemble.members]}

    def predictions(self, images: Sequence[Radiograph]) -> "Iterator[tuple[Radiograph, Whole]]":
        """Every image with the members' mean, each shown the size that it sees, from one decoding."""
        from bonepipe.inference.ensemble.average import average_batch
        from bonepipe.inference.predict import predictions

        distinct = self._distinct()
        predictors = [(voter.shape, voter.predict()) for voter, _ in distinct]
        weights = np.array([own for _, own in distinct])

        def predict(batch: "Mapping[Shape, torch.Tensor]") -> "torch.Tensor":
            maps = (predictor(batch[shape]) for shape, predictor in predictors)
            return average_batch(maps, weights, self.shape, self.mean)

        shapes = frozenset(shape for shape, _ in predictors)
        return predictions(predict, images, shapes, configs.build(self.experiment.config, "prediction"))

    def _distinct(self) -> list[tuple[Voter, NDArray[np.float64]]]:
        """Members with their weights `[C]`; entries that differ in these alone are one, which predicts once."""
        found: dict[Entry, tuple[Voter, NDArray[np.float64]]] = {}
        for voter, own in zip(self.voters, self.weights, strict=True):
            alike = replace(voter.entry, weight=1.0, classes=None)
            first, before = found.get(alike, (voter, np.zeros_like(own)))
            found[alike] = first, before + own
        return list(found.values())

    def out_of_fold(self) -> "Pooled":
        """The histograms that the cross-validation left; raises BonepipeError where there was none."""
        from bonepipe.inference.oof.results import HISTOGRAMS, Pooled, read_counts

        names, counts = read_counts(self.experiment.folder / HISTOGRAMS, self.classes)
        return Pooled(names, self.folds(names), counts)

    def folds(self, names: Sequence[str]) -> NDArray[np.int64]:
        """The fold of the first member that predicted each image out of fold, `[N]`."""
        places = self.voters[0].places()
        return np.array([places[name] for name in names])

    def recall(self) -> Callable[[str], NDArray[np.float32]]:
        """Mix an image's maps out of fold from the members' bytes."""
        return self.mixer(self.archives())

    def mixer(self, archives: Sequence[OofStore]) -> Callable[[str], NDArray[np.float32]]:
        """As `recall`, from archives that were read already."""
        return lambda name: average([one.maps(name) for one in archives], self.weights, self.shape, self.mean)

    def runs(self) -> Sequence[Experiment]:
        """The members' runs."""
        return [voter.experiment for voter in self.voters]

    def provenance(self) -> dict[str, Any]:
        """The ensemble's name and mean, and of each member its share, weights and way to predict."""
        return {
            "experiment": self.experiment.config["name"],
            "mean": self.mean,
            "members": {f"{number} {voter.entry.run}": voter.provenance() for number, voter in enumerate(self.voters)},
        }


def open_team(folder: Path) -> Team:
    """The ensemble that `bonepipe ensemble` left in a folder; its members' folders are named as they were then.

    Raises:
        BonepipeError: it is not cross-validated, its members have changed since, or as `open_voters`.
    """
    way_out = f"run `bonepipe ensemble {folder / ENSEMBLE} -o {folder}`"
    if not (folder / CONFIG).is_file():
        raise BonepipeError(
            f"{folder / CONFIG}: is missing, so this ensemble was not cross-validated, or not to the end; {way_out}"
        )
    experiment = placed(configs.load(folder / CONFIG), folder)
    ensemble = members.read(folder / ENSEMBLE).merged()
    voters = open_voters(ensemble.members, experiment.data.root, experiment.config["device"])
    team = Team(ensemble, voters, experiment)
    team.check()
    check_source(team, way_out)
    return team
