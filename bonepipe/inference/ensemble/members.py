"""An ensemble over any finished runs: a short YAML file, and the mean of its members' probabilities.

```yaml
mean: arithmetic                  # or geometric
members:
  - {run: runs/demo}              # all its folds; every other key has a default
  - {run: runs/wide, weight: 2, folds: [0, 1], overrides: [tta=none, windows.size=768]}
  - {run: runs/sharp, classes: [Pisiform, Trapezium]}
```
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from bonepipe.config import STRICT, read_as
from bonepipe.errors import BonepipeError, suggestion
from bonepipe.files import replacing
from bonepipe.forms import adapter

Mean = Literal["arithmetic", "geometric"]


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One run's share in an ensemble; its folds' models share the weight equally.

    Attributes:
        run: folder of a finished run.
        weight: relative to the other entries.
        folds: folds whose models predict; None for all that the run has.
        epochs: epochs whose weights predict, averaged; None for the run's chosen weights.
        classes: names of the classes that it has a say in; None for all.
        overrides: settings of prediction that differ from the run's own: tta, windows, postprocess.crf.
    """

    __pydantic_config__ = STRICT

    run: str
    weight: float = 1.0
    folds: tuple[int, ...] | None = None
    epochs: tuple[int, ...] | None = None
    classes: tuple[str, ...] | None = None
    overrides: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not (np.isfinite(self.weight) and self.weight > 0):
            raise ValueError(f"weight={self.weight} of {self.run}: must be above 0")
        for name in ("folds", "epochs", "classes"):
            if getattr(self, name) == ():
                raise ValueError(f"{name}=[] of {self.run}: name some, or leave it out for all")


@dataclass(frozen=True, kw_only=True)
class Ensemble:
    """Members and how their probabilities are averaged.

    Attributes:
        members: at least one.
        mean: `arithmetic`, or `geometric`: the sigmoid of the mean logit (logarithmic opinion pool).
    """

    __pydantic_config__ = STRICT

    members: tuple[Entry, ...]
    mean: Mean = "arithmetic"

    def __post_init__(self) -> None:
        if not self.members:
            raise ValueError("members: at least one run")

    def weights(self, classes: Sequence[str]) -> NDArray[np.float64]:
        """Weight of each member in each class `[M, C]`; the weights of a class add to 1.

        Raises:
            BonepipeError: an entry names an unknown class, or a class has no member.
        """
        rows = [[e.weight * (e.classes is None or name in e.classes) for name in classes] for e in self.members]
        result = np.array(rows)
        for entry in self.members:
            for name in entry.classes or ():
                if name not in classes:
                    raise BonepipeError(f"{entry.run}: classes: unknown class {name!r}{suggestion(name, classes)}")
        for name, total in zip(classes, result.sum(0), strict=True):
            if not total:
                raise BonepipeError(f"members: none has a say in {name}; leave `classes` out of one of them")
        return result / result.sum(0)

    def merged(self) -> "Ensemble":
        """The same ensemble with entries that differ in nothing but weight made one, so that each predicts once."""
        totals: dict[Entry, float] = {}
        for entry in self.members:
            alike = replace(entry, weight=1.0)
            totals[alike] = totals.get(alike, 0.0) + entry.weight
        return replace(self, members=tuple(replace(entry, weight=weight) for entry, weight in totals.items()))


def read(path: Path) -> Ensemble:
    """Read an ensemble's YAML file. Raises BonepipeError naming the file and the field."""
    return read_as(Ensemble, path, "an ensemble")


def write(path: Path, ensemble: Ensemble) -> None:
    """Write an ensemble's YAML file, whole, without what is at its default."""
    import yaml

    changed = adapter(Ensemble).dump_python(ensemble, mode="json", exclude_defaults=True)
    with replacing(path) as part:
        text = yaml.safe_dump({"mean": ensemble.mean, **changed}, sort_keys=False, default_flow_style=None)
        part.write_text(text, encoding="utf-8")
