"""Weights & Biases: one run a fold, one for the cross-validation, one for the submission, all in one group.

Tracking never costs a result: whatever W&B throws, the work goes on, and one line on stderr names the cause.
"""

from bonepipe.training.tracking.run import Run, artifact_name
from bonepipe.training.tracking.start import Tracking

__all__ = ["Run", "Tracking", "artifact_name"]
