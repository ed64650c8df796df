"""Two tiny datasets that tests share. They are read-only: copy one before damaging it."""

import csv
import gc
import importlib
import json
import os
import pickle
from pathlib import Path

import cv2
import numpy as np
import pytest

from bonepipe import config as configs
from bonepipe.data.phantom.dataset import write_dataset
from bonepipe.labels import rle

CHEST_CLASSES = ("Left Lung", "Right Lung", "Cardiomediastinum", "Airways", "Ground Glass Opacities")
CHEST_SHAPES = ((96, 120), (128, 128), (150, 110), (101, 133))  # height, width in pixels
CHEST_MODES = ("grey", "rgb", "rgba", "16 bit")


# Files that take a minute or more: whoever begins with them ends with short ones, and no core waits for another.
LONGEST = (
    "test_every_option.py", "test_pipeline.py", "test_staleness.py", "test_wheel.py", "test_ablation.py",
    "test_overfit.py", "test_ways_out.py",
)  # fmt: skip


def pytest_collection_modifyitems(items):
    """The longest files first; `--no-loadscope-reorder` keeps that order, where xdist would begin with most tests."""
    items.sort(key=lambda item: item.path.name not in LONGEST)


@pytest.fixture(scope="session", autouse=True)
def libraries_set_apart():
    """Whole collections of garbage are rare and pass over torch and the like: a sixth of all the time went there."""
    for name in ("bonepipe.pipeline.fold", "bonepipe.inference.predict", "segmentation_models_pytorch", "wandb"):
        importlib.import_module(name)
    gc.collect()
    gc.freeze()
    gc.set_threshold(700, 10, 50)


@pytest.fixture(scope="session", autouse=True)
def composed_once():
    """The same words and files are composed once a process: Hydra takes a seventh of a second each time."""
    compose, known = configs._composed, {}

    def remembered(name, words, given):
        if name != "config":
            return compose(name, words, given)
        files = [path for folder, _, names in os.walk(configs.conf_dir()) for path in map(Path(folder).joinpath, names)]
        key = (tuple(words), tuple(given), *((str(path), path.stat().st_mtime_ns) for path in files))
        if key not in known:
            known[key] = pickle.dumps(compose(name, words, given))
        return pickle.loads(known[key])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(configs, "_composed", remembered)
        yield


@pytest.fixture(scope="session")
def browser():
    """Chromium, see `browser.py`."""
    from browser import chromium  # pytest's option pythonpath has this folder

    with chromium() as started:
        yield started


class StoredCohort:
    """A cohort whose store is there already, split in one way for every fold."""

    def __init__(self, store, training, validation, shares=None, weights=None):
        self.store, self.split, self.shares, self.weights = store, (training, validation), shares, weights

    def indices(self, fold):
        return tuple(map(list, self.split))

    def fraction(self, indices, share, seed):
        assert share == 1
        return indices

    def draw_weights(self, indices, spec):
        return self.weights


@pytest.fixture(scope="session")
def stored_cohort():
    """The class of cohorts around a store."""
    return StoredCohort


@pytest.fixture(scope="session")
def phantom_root(tmp_path_factory):
    """Radiographs of hands: 10 train and 4 test patients, 256 x 256 pixels."""
    root = tmp_path_factory.mktemp("phantom") / "data"
    write_dataset(root, 10, 4, 256, seed=0, workers=0)
    return root


@pytest.fixture(scope="session")
def chest_root(tmp_path_factory):
    """Chests for conf/data/chest.yaml: 6 train and 2 test patients, two images each, in mixed sizes and modes."""
    root = tmp_path_factory.mktemp("chest") / "data"
    answer = []
    for number in range(16):
        split = "train" if number < 12 else "test"
        folder, name = f"case{number // 2:02d}", f"scan{number:03d}"
        shape, mode = CHEST_SHAPES[number % 4], CHEST_MODES[number // 2 % 4]
        outlines = chest_outlines(shape, np.random.default_rng(number))
        write_picture(root / split / "DCM" / folder / f"{name}.png", draw_chest(shape, outlines, number), mode)
        if split == "train":
            write_annotation(root / "train" / "outputs_json" / folder / f"{name}.json", outlines)
        else:
            answer += [(f"{name}.png", *row, "Public" if number < 14 else "Private") for row in encode(shape, outlines)]
    with (root / "answer.csv").open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([("image_name", "class", "rle", "Usage"), *answer])
    return root


@pytest.fixture(scope="session")
def write_dicom():
    """A function: write pixels as a DICOM file; see `written_dicom`."""
    return written_dicom


def written_dicom(path, pixels, syntax="ExplicitVRLittleEndian", *, bits=None, photometric="MONOCHROME2", **elements):
    """Write pixels `[H, W]` or `[H, W, 3]` with pydicom; GDCM compresses, to a syntax of its own name for it."""
    from pydicom import uid
    from pydicom.dataset import Dataset, FileMetaDataset

    dataset, packed = Dataset(), "JPEG" in syntax or "RLE" in syntax
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
    dataset.SOPClassUID, dataset.SOPInstanceUID = uid.DigitalXRayImageStorageForPresentation, uid.generate_uid()
    dataset.set_pixel_data(pixels, photometric, bits or 8 * pixels.dtype.itemsize)
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    if not packed:
        dataset.file_meta.TransferSyntaxUID = getattr(uid, syntax)
        if syntax == "ExplicitVRBigEndian":
            dataset.PixelData = pixels.byteswap().tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)
    if packed:
        compress_dicom(path, syntax)
    return path


def compress_dicom(path, syntax):
    import gdcm

    reader, change, writer = gdcm.ImageReader(), gdcm.ImageChangeTransferSyntax(), gdcm.ImageWriter()
    reader.SetFileName(str(path))
    assert reader.Read()
    change.SetTransferSyntax(gdcm.TransferSyntax(getattr(gdcm.TransferSyntax, syntax)))
    change.SetInput(reader.GetImage())
    assert change.Change()
    for setting, value in ((writer.SetFileName, str(path)), (writer.SetFile, reader.GetFile())):
        setting(value)
    writer.SetImage(change.GetOutput())
    assert writer.Write()


@pytest.fixture(scope="session")
def wandb_records():
    """A function: the records in the log of an offline run's folder."""
    return read_wandb_records


@pytest.fixture
def wandb_server(monkeypatch, tmp_path):
    """A `WandbServer` that stands in for W&B's: this process and its children know its address and its key."""
    import wandb
    from wandb.sdk.lib import wbauth
    from wandb_server import KEY, WandbServer  # pytest's option pythonpath has this folder

    for name in [name for name in os.environ if name.startswith("WANDB")]:
        monkeypatch.delenv(name)
    wbauth.unauthenticate_session(update_settings=False)
    wandb.teardown()  # its service keeps the settings that it began with
    server = WandbServer()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("WANDB_BASE_URL", server.url)
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    yield server
    wandb.teardown()
    server.close()


def read_wandb_records(folder):
    """As `offline_run.read_records`, when everything is on the disk."""
    import wandb
    from offline_run import read_records  # pytest's option pythonpath has this folder

    wandb.teardown()  # ends wandb's own process
    return read_records(folder)


@pytest.fixture(scope="session")
def see_offline_run():
    """A function: what a team sees of an offline run's folder."""

    def see(folder):
        import wandb
        from offline_run import see

        wandb.teardown()
        return see(folder)

    return see


def chest_outlines(shape, rng):
    """Pairs of label and int points [K, 2]; lungs overlap the middle, and an opacity lies in each lung."""
    height, width = shape
    jitter = rng.uniform(-0.03, 0.03, 2)
    ellipses = [
        ("Left Lung", 0.70, 0.5, 0.19, 0.34),
        ("Right Lung", 0.30, 0.5, 0.19, 0.34),
        ("Cardiomediastinum", 0.52, 0.58, 0.13, 0.26),
        ("Airways", 0.5, 0.22, 0.04, 0.16),
        ("Ground Glass Opacities", 0.70, 0.62, 0.08, 0.09),
        ("Ground Glass Opacities", 0.28, 0.42, 0.09, 0.07),
    ]
    turn = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    outlines = []
    for label, x, y, across, down in ellipses:
        points = np.stack([x + jitter[0] + across * np.cos(turn), y + jitter[1] + down * np.sin(turn)], axis=1)
        outlines.append((label, np.rint(points * (width - 1, height - 1)).astype(np.int32)))
    return outlines


def draw_chest(shape, outlines, seed):
    """Float [H, W] in 0..1: every class with a brightness of its own, blurred, with noise."""
    levels = dict(zip(CHEST_CLASSES, (0.15, 0.25, 0.8, 0.05, 0.45), strict=True))
    image = np.full(shape, 0.6, np.float32)
    for label, points in outlines:
        cv2.fillPoly(image, [points], levels[label])
    noise = np.random.default_rng(seed).normal(0, 0.02, shape)
    return np.clip(cv2.GaussianBlur(image, (3, 3), 0) + noise, 0, 1)


def write_picture(path, image, mode):
    """Write float [H, W] in 0..1 as a PNG that is grey, RGB, RGBA or grey of 12 bits in 16."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if mode == "16 bit":
        pixels = np.rint(image * 4095).astype(np.uint16)
    else:
        pixels = np.rint(image * 255).astype(np.uint8)
        pixels = {"grey": pixels, "rgb": np.dstack([pixels] * 3), "rgba": np.dstack([pixels] * 3 + [pixels // 2])}[mode]
    assert cv2.imwrite(str(path), pixels)


def write_annotation(path, outlines):
    """Write pairs of label and points in the competition's JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    entries = [
        {"id": str(i), "type": "poly_seg", "label": name, "points": p.tolist()} for i, (name, p) in enumerate(outlines)
    ]
    path.write_text(json.dumps({"annotations": entries, "metadata": {"height": 3060, "width": 3060}}))


def encode(shape, outlines):
    """Pairs of class and run-length code of the whole frame, repeated labels united."""
    for name in CHEST_CLASSES:
        mask = np.zeros(shape, np.uint8)
        for label, points in outlines:
            if label == name:
                cv2.fillPoly(mask, [points], 1)
        yield name, rle.encode(mask.astype(bool))
