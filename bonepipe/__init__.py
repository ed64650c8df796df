"""K-fold segmentation of the bones of hand radiographs, from raw data to a scored submission."""

import os

# albumentations asks a server for its newest version on import; a training machine may have no network.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

__version__ = "0.1.0"
