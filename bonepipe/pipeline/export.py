"""A finished run or ensemble as one file that predicts without this package: ONNX, or a program of torch.export."""

import importlib.util
import io
import json
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from bonepipe import __version__
from bonepipe.data.catalog import Radiograph, test_images
from bonepipe.data.frame import Frame
from bonepipe.data.image import resize_grey
from bonepipe.disk import naming
from bonepipe.errors import BonepipeError, UsageError
from bonepipe.inference.oof.byte_maps import LEVELS
from bonepipe.labels import upsample
from bonepipe.pipeline import decisions, run_folder
from bonepipe.pipeline.experiment import Experiment, say, with_group
from bonepipe.pipeline.predictors.ensemble import EnsemblePredictor
from bonepipe.pipeline.predictors.opening import open_predictor
from bonepipe.pipeline.predictors.run import Run, open_run, refuse_region, voting_folds
from bonepipe.pipeline.run_folder import THRESHOLDS
from bonepipe.report.overlay import save

if TYPE_CHECKING:
    import torch

    from bonepipe.inference.fold_model import FoldModel
    from bonepipe.pipeline.predictors.member import EnsembleMember

FORMATS, FACTS = (".onnx", ".pt2"), "bonepipe.json"  # where a .pt2 keeps what an ONNX file has as metadata
ON_CPU = ("device=cpu", "prediction.compile=false", "prediction.precision=32")
INPUT, OUTPUT, OPSET = "image", "probabilities", 20
NEARLY = 0.05  # the same where an image grows in the graph, and grey values may be one level off
ALIKE = 1e-3  # the largest difference of a probability between a graph and the pipeline that is rounding
ONE_FILE = 1_900_000_000  # bytes: a protocol buffer holds 2 GiB

Maps = NDArray[np.float32]
Whole = Run | EnsemblePredictor


@dataclass(frozen=True)
class Graph:
    """What is written.

    Attributes:
        module: grey bytes uint8 `[N, 1, h, w]` to probabilities float32 `[N, C, h, w]`.
        frame: how it is shown images.
        any_size: whether it does that, and the way back, itself.
        facts: what whoever runs it needs to know, plain values.
        passes: models and views in it, in words.
    """

    module: "torch.nn.Module"
    frame: Frame
    any_size: bool
    facts: dict[str, Any]
    passes: str


class Written(NamedTuple):
    """A file and how far it is from the pipeline.

    Attributes:
        size: bytes.
        image: name of the image that was compared.
        difference: the largest of a probability.
        dice: mean of its masks, over all classes.
    """

    size: int
    passes: str
    image: str
    difference: float
    dice: float


def export(predictor: Whole, path: Path, *, any_size: bool = False) -> Written:
    """Write a predictor as one graph, checked against the pipeline on one image before it is put in place.

    Args:
        path: its suffix tells the format.
        any_size: images of any size in, probabilities at their size out, instead of the frame's.

    Raises:
        UsageError: another suffix.
        BonepipeError: packages are missing, the predictor does more than a graph can, or the graph predicts otherwise.
    """
    require_format(path)
    graph = build(predictor, any_size=any_size)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".export") as folder:
        part = Path(folder) / path.name
        with tqdm(total=3, desc="export", unit="step") as bar:
            program = _program(graph)
            bar.update()
            with naming(path):
                run = (_write_onnx if path.suffix == ".onnx" else _write_pt2)(program, graph, part)
            bar.update()
            written = _compare(run, predictor, graph, part)
            bar.update()
        for file in sorted(Path(folder).iterdir(), key=lambda file: file == part):  # the graph last
            file.replace(path.parent / file.name)
    return written


def require_format(path: Path) -> None:
    """Raise UsageError for another suffix or no such folder, BonepipeError where packages are missing."""
    if path.suffix not in FORMATS:
        raise UsageError(f"--output {path}: the suffix tells the format, {' or '.join(FORMATS)}")
    if not path.parent.is_dir():
        raise UsageError(f"--output {path}: no folder {path.parent}; make it first")
    needed = ("onnx", "onnxscript", "onnxruntime") if path.suffix == ".onnx" else ()
    if missing := [name for name in needed if importlib.util.find_spec(name) is None]:
        raise BonepipeError(f"{path}: needs {', '.join(missing)}; pip install 'bonepipe[export]', or write a .pt2")


def open_exportable(folder: Path, fold: int | None, words: Sequence[str]) -> Whole:
    """What a folder holds, to be exported; with a fold, its model alone, which needs no cross-validation.

    Raises:
        UsageError: a cascade, or a run that sees only a region.
        BonepipeError: it is not finished.
    """
    kind = run_folder.kind_of(folder)
    if kind == "cascade":
        first = run_folder.read_cascade(folder)["first"]
        raise UsageError(f"{folder}: a cascade cuts its crops between two networks; export its first stage, {first}")
    if fold is not None and kind == "ensemble":
        raise UsageError(f"--fold {fold}: {folder} is an ensemble; name the folder of one of its runs")
    words = [*words, *ON_CPU, *([] if fold is None else [f"prediction.folds=[{fold}]"])]
    if fold is None or (folder / THRESHOLDS).is_file():
        predictor = open_predictor(folder, words)
        assert isinstance(predictor, Run | EnsemblePredictor)
        return predictor
    run = Run(with_group(open_run(folder, words), "postprocess", crf=None))  # whose classes nobody has chosen yet
    refuse_region(run.experiment)
    return run


def build(predictor: Whole, *, any_size: bool = False) -> Graph:
    """One module of all that predicts, in evaluation mode on the CPU, and what there is to know of it."""
    from bonepipe.inference.export import AnySize

    if isinstance(predictor, Run):
        experiment = predictor.experiment
        _refuse_windows(experiment)
        models = [experiment.fold_model(fold) for fold in voting_folds(experiment)]
        module, frame = _averaged(experiment, models), experiment.windows.frame
        passes = f"{len(models)} models x {experiment.ways}"
    else:
        module, frame, passes = _mixed(predictor)
    if any_size:
        module = AnySize(module, frame)
    return Graph(module.eval().requires_grad_(False), frame, any_size, _facts(predictor, frame, any_size), passes)


def _averaged(experiment: Experiment, models: "Sequence[FoldModel]") -> "torch.nn.Module":
    from bonepipe.inference.export import Averaged

    data, networks = experiment.data, [model.model for model in models]
    return Averaged(networks, experiment.views, data.mean, data.std)


def _mixed(predictor: EnsemblePredictor) -> "tuple[torch.nn.Module, Frame, str]":
    import torch

    from bonepipe.inference.export import Mixed

    if len({member.frame for member in predictor.members}) > 1 or predictor.mean != "arithmetic":
        raise UsageError(
            f"{predictor.experiment.folder}: a graph holds the arithmetic mean of runs of one size and fit; export its "
            f"runs one by one ({', '.join(member.entry.run for member in predictor.members)}) and average their answers"
        )
    modules, count = [], 0
    for member in predictor.members:
        _refuse_windows(member.experiment)
        models = [member.experiment.fold_model(fold, epoch) for fold in member.folds for epoch in member.epochs]
        modules.append(_averaged(member.experiment, models))
        count += len(models) * len(member.experiment.views)
    weights = torch.from_numpy(predictor.weights.astype(np.float32))
    return Mixed(modules, weights), predictor.members[0].frame, f"{len(modules)} runs, {count} models and views"


def _refuse_windows(experiment: Experiment) -> None:
    if experiment.config["windows"].get("window") is not None:
        raise UsageError(
            f"{experiment.folder}: looks through windows, which a graph cannot; `bonepipe train-all windows=none` with "
            "the run's other settings predicts out of fold without them, and then it can be exported"
        )


def _facts(predictor: Whole, frame: Frame, any_size: bool) -> dict[str, Any]:
    """What the graph's user needs: classes, thresholds, how to show it images, what it leaves out."""
    experiment, data = predictor.experiment, predictor.experiment.data
    classes, chosen = data.classes, decisions.Decisions([0.5] * len(data.classes))
    if (experiment.folder / THRESHOLDS).is_file():
        chosen = decisions.read(experiment.folder, classes)
    else:
        say(f"{experiment.folder}: not cross-validated, so all thresholds are 0.5")
    operations = {name: list(names) for name, names in zip(classes, chosen.operations, strict=False) if names}
    refined = {*chosen.crf, *(name for member in _members(predictor) for name in member.refined)}
    crf = [name for name in classes if name in refined]
    left_out = {"thresholds_by_stratum": chosen.by_stratum, "operations": operations, "crf": crf}
    if missing := [name.replace("_", " ") for name, value in left_out.items() if value]:
        say(f"not in the graph, but noted in its metadata: {', '.join(missing)}")
    return {
        "classes": list(classes), "thresholds": chosen.thresholds, "size": list(frame.shape), "fit": frame.fit,
        "any_size": any_size, "mean": data.mean, "std": data.std, **left_out,
        "min_area": experiment.postprocess.min_area, "run": experiment.folder.name, "bonepipe": __version__,
    }  # fmt: skip


def _members(predictor: Whole) -> "Sequence[EnsembleMember]":
    return predictor.members if isinstance(predictor, EnsemblePredictor) else ()


def _program(graph: Graph) -> "torch.export.ExportedProgram":
    """The traced module; the number of images, and their size where any is taken, stay open."""
    import torch

    height, width = graph.frame.shape
    size = (height + 40, width + 24) if graph.any_size else (height, width)
    example = torch.randint(0, 256, (2, 1, *size), dtype=torch.uint8)
    names = {0: "batch", **({2: "height", 3: "width"} if graph.any_size else {})}
    dimensions = {axis: torch.export.Dim(name, max=65536) for axis, name in names.items()}
    return torch.export.export(graph.module, (example,), dynamic_shapes=(dimensions,))


def _write_onnx(program: Any, graph: Graph, path: Path) -> "Callable[[NDArray[np.uint8]], Maps]":
    import logging

    import onnxruntime
    import torch

    logging.getLogger("onnxscript").setLevel(logging.ERROR)
    made = torch.onnx.export(
        program, dynamo=True, opset_version=OPSET, input_names=[INPUT], output_names=[OUTPUT], verbose=False
    )
    assert made is not None
    made.model.metadata_props.update({key: json.dumps(value) for key, value in graph.facts.items()})
    weights = (*graph.module.parameters(), *graph.module.buffers())
    made.save(path, external_data=sum(tensor.nbytes for tensor in weights) > ONE_FILE)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda images: session.run([OUTPUT], {INPUT: images})[0]


def _write_pt2(program: Any, graph: Graph, path: Path) -> "Callable[[NDArray[np.uint8]], Maps]":
    import torch

    content = io.BytesIO()  # of a file that the disk refuses, torch tells neither name nor reason
    torch.export.save(program, content, extra_files={FACTS: json.dumps(graph.facts)})
    path.write_bytes(content.getbuffer())
    module = torch.export.load(path).module()
    return lambda images: module(torch.from_numpy(images)).numpy()


def _compare(run: "Callable[[NDArray[np.uint8]], Maps]", predictor: Whole, graph: Graph, path: Path) -> Written:
    """Run the written graph on an image and compare. Raises BonepipeError where it differs by more than rounding."""
    image = _example(predictor.experiment, graph.frame, path.parent)
    grey = image.read()
    ((_, whole),) = predictor.predictions([image])
    if graph.any_size:
        want, got = _full(whole.maps, whole.shape), run(grey[None, None])[0]
    else:
        want = whole.maps
        got = graph.frame.content(run(graph.frame.place(grey, resize_grey)[None, None])[0], whole.shape)
    plain = [name not in graph.facts["crf"] for name in graph.facts["classes"]]
    several = isinstance(predictor, EnsemblePredictor) and len(predictor.members) > 1
    difference = largest_difference(got[plain], want[plain], several=several)
    grows = graph.any_size and any(side < full for side, full in zip(grey.shape, graph.frame.shape, strict=True))
    if not difference <= (NEARLY if grows else ALIKE):
        raise BonepipeError(
            f"{path.name}: predicts {image.name} otherwise than the pipeline (probabilities are {difference:.2g} off); "
            "nothing is written; try the other format, .onnx or .pt2"
        )
    limits = np.array(graph.facts["thresholds"], np.float32)[:, None, None]
    dice = _mean_dice((got >= limits)[plain], (want >= limits)[plain])
    size = sum(file.stat().st_size for file in path.parent.glob(f"{path.name}*"))
    return Written(size, graph.passes, image.name, difference, dice)


def largest_difference(got: Maps, want: Maps, *, several: bool) -> float:
    """How far maps of a graph are from the pipeline's at most.

    Where none of several members says as much as a level (1/256), the pipeline's mean is 0, and the graph's is not.
    """
    left_out = np.where(want < 1 / LEVELS, 1 / LEVELS if several else 0, 0)
    return float((np.abs(got - want) - left_out).max(initial=0))


def _full(maps: Maps, shape: tuple[int, int]) -> Maps:
    return np.stack([upsample.upsample(map_, shape) for map_ in maps])


def _mean_dice(masks: Iterable[NDArray[np.bool_]], others: Iterable[NDArray[np.bool_]]) -> float:
    pairs = list(zip(masks, others, strict=True))
    scores = [2 * (a & b).sum() / total if (total := a.sum() + b.sum()) else 1.0 for a, b in pairs]
    return float(np.mean(scores)) if scores else 1.0


def _example(experiment: Experiment, frame: Frame, folder: Path) -> Radiograph:
    """A test image of the run's dataset; where it is not there, smooth noise, written into a folder."""
    import cv2

    try:
        return test_images(experiment.data)[0]
    except BonepipeError:
        noise = np.random.default_rng(0).integers(0, 256, [2 * side for side in frame.shape]).astype(np.uint8)
        cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 9), noise, 0, 255, cv2.NORM_MINMAX)
        save(folder / "example.png", noise)
        return Radiograph("example.png", "example", folder / "example.png", "test")
