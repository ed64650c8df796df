"""What `bonepipe view` shows: the dataset of an experiment, and the masks of run folders and CSVs."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bonepipe import config as configs
from bonepipe.data import strata
from bonepipe.data.catalog import Radiograph, read_catalog
from bonepipe.data.mask_index import MaskIndex
from bonepipe.data.review import FILE, TABLE, Review, read_candidates
from bonepipe.data.spec import DataSpec
from bonepipe.data.strata import StrataSpec
from bonepipe.data.submission import ANSWER
from bonepipe.errors import BonepipeError, UsageError
from bonepipe.inference.oof.results import MASKS, SCORES
from bonepipe.pipeline.comparison import read_dice
from bonepipe.pipeline.run_folder import SUBMISSION, config_file, fold_folders, load_config
from bonepipe.report.view.gallery import Dice, Gallery, Source
from bonepipe.screen import say

USED = ("data", "strata")  # groups of settings; nothing here needs a network
EXTRA = "pip install 'bonepipe[view]'"


@dataclass(frozen=True)
class Opened:
    """A gallery, the candidates for wrong annotations, and how to get some where there are none."""

    gallery: Gallery
    review: Review | None
    hint: str


def require_packages() -> None:
    """Raise BonepipeError where what the viewer needs is not installed."""
    try:
        import starlette  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise BonepipeError(f"the viewer needs {error.name}, which is not installed; {EXTRA}") from error


def open_gallery(paths: Sequence[Path], words: Sequence[str], corrections: Path | None = None) -> Opened:
    """Open what is to be shown.

    Args:
        paths: run folders and CSVs of masks; none for the run of the experiment that the words describe.
        words: overrides.
        corrections: the file to write decisions into; that of the first run by default.

    Raises:
        UsageError: a path is neither a folder nor a file.
        BonepipeError: a folder holds no run, a file is no CSV of masks, or there is no dataset.
    """
    folders = [path for path in paths if path.is_dir()]
    for path in paths:
        if not path.exists():
            raise UsageError(f"{path}: no such folder or file; name runs (runs/NAME) or CSVs of masks")
    config = _recorded(folders[0], words) if folders else configs.compose(words, uses=USED)
    run = Path(config["runs"]) / config["name"]
    if not paths and run.is_dir():
        folders = [run]
    spec: DataSpec = configs.build(config, "data")
    if spec.region is not None:
        raise BonepipeError(f"{folders[0] if folders else run}: sees a region only; show the cascade that uses it")
    images = read_catalog(spec)
    answer = spec.path / ANSWER
    gallery = Gallery(
        spec,
        images,
        _sources(paths or folders, spec),
        MaskIndex(answer) if answer.is_file() else None,
        _strata(images, configs.build(config, "strata")),
        {name: fold for folder in reversed(folders) for name, fold in _folds(folder).items()},
    )
    return Opened(gallery, *_review(gallery, folders, corrections))


def _recorded(folder: Path, words: Sequence[str]) -> configs.Config:
    """The settings of a folder's results, those of an earlier version too, with overrides."""
    return configs.recompose(load_config(config_file(folder), checked=False), words, USED)


def _sources(paths: Sequence[Path], spec: DataSpec) -> list[Source]:
    """Who has masks, each with a name of its own."""
    pairs = [(path, source) for path in paths if (source := _source(path, spec)).tables]
    if len({source.name for _, source in pairs}) == len(pairs):
        return [source for _, source in pairs]
    return [replace(source, name=str(path)) for path, source in pairs]


def _source(path: Path, spec: DataSpec) -> Source:
    """The masks of a run's folder, or of a CSV."""
    if not path.is_dir():
        source = Source(path.stem, (MaskIndex(path),))
        _require_some(source, path, spec)
        return source
    places = [path, *fold_folders(path).values()]
    tables = [place / name for name in (MASKS, SUBMISSION) for place in places if (place / name).is_file()]
    return Source(path.resolve().name, tuple(map(MaskIndex, tables)), _dice(places, spec))


def _require_some(source: Source, path: Path, spec: DataSpec) -> None:
    """Raise BonepipeError for a CSV that has no mask of the dataset's classes."""
    image = next(iter(source.path_of), None)
    labels = source.codes(image) if image else {}
    if not set(labels) & set(spec.classes):
        what = f"its classes are {', '.join(list(labels)[:3])}, ..." if labels else "no rows"
        raise BonepipeError(
            f"{path}: {what}; the dataset's are {', '.join(spec.classes[:3])}, ... (data=... to change)"
        )


def _dice(folders: Sequence[Path], spec: DataSpec) -> Dice:
    """Image -> Dice of each class as out-of-fold prediction noted it."""
    rows: dict[tuple[str, str], float] = {}
    for folder in folders:
        if (folder / SCORES).is_file():
            rows |= read_dice(folder / SCORES)
    images = dict.fromkeys(image for image, _ in rows)
    return {image: [rows.get((image, label)) for label in spec.classes] for image in images}


def _folds(folder: Path) -> dict[str, int]:
    """Image -> the fold that predicted it."""
    tables = {fold: path / MASKS for fold, path in fold_folders(folder).items() if (path / MASKS).is_file()}
    return {image: fold for fold, path in tables.items() for image in MaskIndex(path).images()}


def _strata(images: Sequence[Radiograph], spec: StrataSpec) -> dict[str, str]:
    """Image -> its stratum, as far as lists tell: nothing is measured, which would take a look at every image."""
    if not spec.by:
        return {}
    listed = {image.split for image in images if image.rotated}  # a list that names nobody of a part is of the other
    known = [image if image.split in listed else replace(image, rotated=None) for image in images]
    names = (image.name for image in images)
    return dict(zip(names, strata.stratify(known, replace(spec, wrist="listed")), strict=True))


def _review(gallery: Gallery, folders: Sequence[Path], path: Path | None) -> tuple[Review | None, str]:
    """The candidates of the first run that has some, or how to get some."""
    folder = next((folder for folder in folders if (folder / TABLE).is_file()), None)
    command = f"bonepipe label-errors --run {folder or next(iter(folders), 'runs/NAME')}"
    if folder is None:
        return None, command
    try:
        candidates = read_candidates(folder / TABLE)
    except BonepipeError as error:
        say(f"warning: {error}")
        return None, command
    source = next((s for s in gallery.sources if s.name in (folder.resolve().name, str(folder))), None)

    def code(image: str, label: str) -> str | None:
        return None if source is None else source.codes(image).get(label)

    names = [image.name for image in gallery.images if image.annotation is not None]
    return Review(candidates, path or folder / FILE, gallery.spec.labels, names, code), ""
