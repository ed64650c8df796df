"""What a dataset is: its folder layout, classes and statistics. Everything the rest knows about the data's form."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from bonepipe.data.frame import Fit, Frame
from bonepipe.data.limits import DEFAULTS, Limits
from bonepipe.data.region import Region
from bonepipe.errors import suggestion
from bonepipe.ranges import Byte, Count, Pixels, Portion, Share

FINEST = 4  # times the size; beyond it outlines gain nothing, and the store grows with the square


@dataclass(frozen=True, kw_only=True)
class External:
    """Another dataset in the same format, to train on and never to validate on.

    Attributes:
        prefix: put before its patients, so that none of them is taken for one of the dataset's own.
        classes: those that it annotates; None for all. Of its images no pixel counts for another class in the loss,
            because what is not annotated may be there all the same.
        negatives: as `DataSpec.negatives`, of its images.
    """

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012 - pydantic's name: a misspelt key is refused

    root: str
    prefix: str = "external"
    classes: tuple[str, ...] | None = None
    negatives: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.prefix:
            raise ValueError(f"data.external: {self.root} needs a prefix for its patients, for example 'more'")
        if self.classes is not None and not self.classes:
            raise ValueError(f"data.external: {self.root}: classes is empty; name those that it annotates, or null")
        _check_patterns(f"data.external: {self.root}: negatives", self.negatives)

    def check_classes(self, known: Sequence[str]) -> None:
        """Raise ValueError, with the nearest name, where it annotates a class that is not known."""
        for label in self.classes or ():
            _check_class(f"data.external: {self.root}: classes", label, known)


def _check_patterns(where: str, patterns: Sequence[str]) -> None:
    if not all(pattern.strip() for pattern in patterns):
        raise ValueError(f"{where}: a pattern is empty; name images, for example 'ID040/*' or '*.png'")


def _check_class(where: str, label: str, known: Sequence[str]) -> None:
    if label not in known:
        hint = suggestion(label, known) or f"; data.classes has {', '.join(known)}"
        raise ValueError(f"{where}: unknown class {label!r}{hint}")


@dataclass(frozen=True, kw_only=True)
class DataSpec:
    """The form of a dataset, as conf/data/*.yaml gives it.

    Attributes:
        name: short name; the fold file carries it.
        classes: class names in the order of the submission.
        size: height and width in pixels that the model sees; one number for a square.
        fit: how images of another aspect are brought to that size. `pad` keeps their aspect and makes the rest black,
            and what is black counts neither in the loss nor in a score; `stretch` fills all of it, as runs did whose
            config lacks this setting. A region's crops have the aspect of `size` anyway.
        supersample: training images and labels are kept and augmented at so many times `size`, and averaged to it in
            the end: the label of a pixel becomes the share of it that a class covers, which tells where in the pixel
            the outline runs. 1: each pixel is inside or outside.
        train_images, test_images, annotations: folders below the root.
        images: suffixes of the images there, in small letters; files have them in any case. An empty one stands for
            DICOM files without suffix.
        metadata: spreadsheet below the root, or None.
        patient: regular expression on an image's path below its folder; its first group is the patient.
        patient_tag: keyword of the DICOM element that is the patient instead, such as `PatientID`; None for the path.
        mean, std: of the grey values, on the scale 0 to 1.
        swaps: class pairs that trade places when an image is mirrored, by axis (`horizontal`, `vertical`).
        masks: CSV of run-length codes (`image_name,class,rle`) of every training image, trained on instead of the
            annotations; validation compares with the annotations all the same. None for the annotations.
        palette: a colour `[R, G, B]` a class for pictures; empty for light ones that the colour-blind tell apart.
        closeup: classes whose part of the image the dashboard shows enlarged as well; empty for none.
        strata: in what the test set may differ from the training images, see `bonepipe.data.strata`.
        external: further datasets to train on.
        corrections: CSV of what to leave out, rename or replace in training, see `bonepipe.data.corrections`; the masks
            that validation compares with stay as they are annotated.
        pseudo: CSV of pseudo-labels of test images to train on as well, see `bonepipe.data.pseudo`.
        pseudo_weight: of such an image in the loss, where an annotated one has 1.
        negatives: patterns of images whose dark and bright are exchanged in the file, by the end of their path
            (`a.png`, `ID040/*`, `test/DCM/*/*`); they are turned back wherever they are read.
        others: labels of the annotations that are not learned, for runs that specialise in some classes; None for none.
        region: the part of each image that is seen, at `size`; None for the whole image. `bonepipe cascade` uses
            such a run.
        limits: how large the dataset's files may be; no result depends on it.
    """

    name: str
    root: str
    classes: tuple[str, ...]
    size: Pixels | tuple[Pixels, Pixels]
    fit: Fit = "stretch"
    supersample: Count = 1
    train_images: str = "train/DCM"
    test_images: str = "test/DCM"
    annotations: str = "train/outputs_json"
    images: tuple[str, ...] = (".png",)
    metadata: str | None = "meta_data.xlsx"
    patient: str = "^([^/]+)/"
    patient_tag: str | None = None
    mean: Share = 0.5
    std: Portion = 0.25
    swaps: Mapping[str, Sequence[tuple[str, str]]] = field(default_factory=dict)
    masks: str | None = None
    palette: tuple[tuple[Byte, Byte, Byte], ...] = ()
    closeup: tuple[str, ...] = ()
    strata: tuple[Literal["wrist", "sex", "age"], ...] = ()
    external: tuple[External, ...] = ()
    corrections: str | None = None
    pseudo: str | None = None
    pseudo_weight: Portion = 0.5
    negatives: tuple[str, ...] = ()
    others: tuple[str, ...] | None = None
    region: Region | None = None
    limits: Limits = DEFAULTS

    def __post_init__(self) -> None:
        if len(set(self.labels)) != len(self.labels) or not self.classes:
            raise ValueError("data.classes must be a list of different names, and data.others name none of them")
        self._check_names()
        self._check_size()
        if not (math.isfinite(self.mean) and 0 < self.std < math.inf):
            raise ValueError(f"data.mean={self.mean}, data.std={self.std}: finite numbers, std above 0")
        if self.palette and len(self.palette) != len(self.classes):
            raise ValueError(f"data.palette has {len(self.palette)} colours for {len(self.classes)} classes")
        self._check_patient()
        self._check_suffixes()
        _check_patterns("data.negatives", self.negatives)
        if self.masks is not None and self.corrections is not None:
            raise ValueError("data.masks and data.corrections: the masks take the place of annotations, so mend them")
        if not 0 < self.pseudo_weight <= 1:
            raise ValueError(f"data.pseudo_weight={self.pseudo_weight}: above 0 and at most 1")
        for label in self.region.classes if self.region else ():
            _check_class("data.region.classes", label, self.classes)
        for label in self.closeup:
            _check_class("data.closeup", label, self.labels)
        for axis in self.swaps:
            self.mirrored_order(axis)
        for external in self.external:
            external.check_classes(self.labels)
        roots = [str(Path(root)) for root in (self.root, *(external.root for external in self.external))]
        for values, what in (([external.prefix for external in self.external], "prefix"), (roots, "root")):
            if len(set(values)) != len(values):
                raise ValueError(f"data.external: each dataset needs a {what} of its own, got {', '.join(values)}")

    def _check_size(self) -> None:
        if min(self.shape) < 32:
            raise ValueError(f"data.size={self.size}: at least 32 pixels a side")
        if not 1 <= self.supersample <= FINEST:
            raise ValueError(f"data.supersample={self.supersample}: from 1 to {FINEST} times the size")

    def _check_names(self) -> None:
        """Class names stand in tables and, a slash as an underscore, in names of files."""
        for label in self.labels:
            if label != label.strip() or not label or not label.isprintable() or len(label.encode()) > 200:
                raise ValueError(
                    f"data.classes: {label[:80]!r}: a name is printable, without blanks at its ends, at most 200 bytes"
                )
        if len({label.replace("/", "_") for label in self.classes}) != len(self.classes):
            raise ValueError("data.classes: two names differ by / and _ alone, so their masks would be one file")

    def _check_patient(self) -> None:
        try:
            groups = re.compile(self.patient).groups
        except re.error as error:
            raise ValueError(f"data.patient={self.patient!r}: no regular expression ({error})") from error
        if groups < 1:
            raise ValueError(f"data.patient={self.patient!r}: the pattern needs a group, for example '^([^/]+)/'")

    def _check_suffixes(self) -> None:
        for suffix in self.images or ("nothing",):
            if suffix and (not suffix.startswith(".") or suffix != suffix.lower() or len(suffix) < 2):
                raise ValueError(
                    f"data.images: {suffix!r}: suffixes in small letters, for example ['.png'] or ['.dcm']"
                )

    @property
    def patterns(self) -> str:
        """Which files are its images, in words."""
        return ", ".join(f"*{suffix}" if suffix else "DICOM without suffix" for suffix in self.images)

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in pixels that the model sees."""
        return (self.size, self.size) if isinstance(self.size, int) else self.size

    @property
    def drawn_shape(self) -> tuple[int, int]:
        """Height and width in pixels at which training images are drawn and augmented."""
        return self.shape[0] * self.supersample, self.shape[1] * self.supersample

    @property
    def frame(self) -> Frame:
        """How the model is shown an image; the crops of a region fill it."""
        return Frame(self.shape, self.fit if self.region is None else "stretch")

    @property
    def labels(self) -> tuple[str, ...]:
        """All that annotations may hold: the classes, then the others."""
        return (*self.classes, *(self.others or ()))

    @property
    def path(self) -> Path:
        """The dataset's folder."""
        return Path(self.root)

    @property
    def region_classes(self) -> list[int]:
        """Indices of the region's classes; none without a region."""
        return [self.classes.index(label) for label in self.region.classes] if self.region else []

    def of(self, external: External) -> "DataSpec":
        """The form of an external dataset: this one's, at another place."""
        return replace(self, root=external.root, external=(), negatives=external.negatives)

    def mirrored_order(self, axis: str) -> tuple[int, ...]:
        """For each class, the index of the class whose place it takes when the image is mirrored along an axis."""
        if axis not in ("horizontal", "vertical"):
            raise ValueError(f"data.swaps.{axis}: the axis is horizontal or vertical")
        order = list(range(len(self.classes)))
        names = [name for pair in self.swaps.get(axis, ()) for name in pair]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise ValueError(f"data.swaps.{axis}: {twice} stands in it twice, and can trade places with one class only")
        for pair in self.swaps.get(axis, ()):
            for name in pair:
                _check_class(f"data.swaps.{axis}", name, self.classes)
            a, b = (self.classes.index(name) for name in pair)
            order[a], order[b] = b, a
        return tuple(order)
