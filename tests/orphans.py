"""Processes that work for another: `python orphans.py KIND FOLDER`; each notes its number in the folder."""

import multiprocessing
import os
import sys
import time
from pathlib import Path

from torch.utils.data import Dataset

from bonepipe.data.loading import make_loader
from bonepipe.parallel import in_processes


def work(folder):
    """Note who works, then work for a while."""
    Path(folder, str(os.getpid())).touch()
    time.sleep(0.2)
    return 0


class Items(Dataset):
    """As many items as are asked for."""

    def __init__(self, folder):
        self.folder = folder

    def __getitem__(self, index):
        return work(self.folder)

    def __len__(self):
        return 10_000


if __name__ == "__main__":
    kind, folder = sys.argv[1:]
    if kind == "pool":
        in_processes(work, [folder] * 10_000, "items")
    else:
        multiprocessing.set_start_method(kind)
        for _ in make_loader(Items(folder), 1, workers=2):
            pass
