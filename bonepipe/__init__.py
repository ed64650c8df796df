"""K-fold segmentation of the bones of hand radiographs, from raw data to a scored submission."""

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bonepipe.pipeline.experiment import Experiment

# albumentations asks a server for its newest version on import; a training machine may have no network.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

__version__ = "0.1.0"


def compose(overrides: Sequence[str] = ()) -> "Experiment":
    """The experiment that `key=value` words describe, as on the command line: `compose(["experiment=demo"])`.

    Raises:
        UsageError: an unknown key or option, a value of the wrong type.
    """
    from bonepipe.config import compose as compose_config
    from bonepipe.pipeline.experiment import Experiment

    return Experiment(compose_config(overrides))
