"""A working folder that is whole, broken by one case after the other, and made whole again."""

import shutil
from pathlib import Path

from corpus.case import clear

CACHES = (".store", "__pycache__")  # made anew by whoever asks


class Place:
    """A folder and a copy of it.

    Args:
        path: of the folder, filled.
        link: whether large files may be links to those of the copy; who breaks one puts another in its place.
    """

    def __init__(self, path, copy=shutil.copy2):
        self.path, self.kept, self.copy = path, path.with_name(f"{path.name}.kept"), copy
        shutil.copytree(path, self.kept, copy_function=copy, symlinks=True)
        self.whole = self.state()

    def state(self):
        """File -> what tells that it was neither written nor replaced."""
        paths = (path for path in self.path.rglob("*") if not set(path.parts) & {*CACHES})
        stats = {path: path.lstat() for path in paths if path.is_symlink() or not path.is_dir()}
        return {
            str(path.relative_to(self.path)): (stat.st_size, stat.st_mtime_ns, stat.st_ino)
            for path, stat in stats.items()
        }

    def mend(self):
        """Make it as it was."""
        now = self.state()
        for name in now.keys() | self.whole.keys():
            if now.get(name) == self.whole.get(name):
                continue
            clear(self.path / name)
            if name in self.whole:
                (self.path / name).parent.mkdir(parents=True, exist_ok=True)
                self.copy(self.kept / name, self.path / name)
                self.whole[name] = self._state_of(name)
        for path in sorted(self.path.rglob("*"), reverse=True):
            if path.is_dir() and not path.is_symlink() and not any(path.iterdir()) and not self._was_there(path):
                path.rmdir()

    def _state_of(self, name):
        stat = (self.path / name).lstat()
        return stat.st_size, stat.st_mtime_ns, stat.st_ino

    def _was_there(self, path):
        return (self.kept / Path(path).relative_to(self.path)).is_dir()
