import json
import os
import pickle
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import cv2
import numpy as np
import pytest
import yaml

from bonepipe import leftovers
from bonepipe.config import conf_dir
from bonepipe.data import store as stores
from bonepipe.data.catalog import train_images
from bonepipe.data.image import read_grey, resize_grey
from bonepipe.data.spec import DataSpec
from bonepipe.errors import BonepipeError
from bonepipe.labels import bitplane, cutout


def data_spec(name, root, size):
    node = yaml.safe_load((conf_dir() / f"data/{name}.yaml").read_text())
    return DataSpec(name=name, root=str(root), size=size, classes=tuple(node["classes"]), metadata=None)


@pytest.fixture(scope="module")
def hand(phantom_root, tmp_path_factory):
    spec = data_spec("hand", phantom_root, 96)
    images = train_images(spec)
    return spec, images, stores.open_store(images, spec, tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def chest(chest_root, tmp_path_factory):
    spec = data_spec("chest", chest_root, (64, 80))
    images = train_images(spec)
    return spec, images, stores.open_store(images, spec, tmp_path_factory.mktemp("store"))


@pytest.fixture
def copy(chest_root, tmp_path):
    """A copy of the chests that may be damaged."""
    spec = data_spec("chest", shutil.copytree(chest_root, tmp_path / "data"), 64)
    return spec, train_images(spec), tmp_path / "cache"


@pytest.fixture(params=["hand", "chest"])
def case(request):
    return request.getfixturevalue(request.param)


def masks(image, spec):
    """Every class's mask at full size, uint8 [C, H, W], by the annotation alone."""
    height, width = cv2.imread(str(image.path), cv2.IMREAD_UNCHANGED).shape[:2]
    result = np.zeros((len(spec.classes), height, width), np.uint8)
    for entry in json.loads(image.annotation.read_text())["annotations"]:
        cv2.fillPoly(result[spec.classes.index(entry["label"])], [np.array(entry["points"])], 1)
    return result


def test_planes_are_the_filled_and_resized_polygons(case):
    spec, images, store = case
    assert store.planes.shape == (len(images), *spec.shape, -(-len(spec.classes) // 8))
    for index, image in enumerate(images):
        unpacked = bitplane.unpack(store.planes[index], len(spec.classes))
        for number, mask in enumerate(masks(image, spec)):
            covered = cv2.resize(mask.astype(np.float32), spec.shape[::-1], interpolation=cv2.INTER_AREA)
            assert (unpacked[..., number] == (covered > 0.4999)).all()


def test_images_and_shapes_are_the_files(case):
    spec, images, store = case
    assert store.names == tuple(image.name for image in images)
    assert store.images.shape == (len(images), *spec.shape)
    for index, image in enumerate(images):
        grey = read_grey(image.path)
        assert store.shape(index) == grey.shape
        assert (store.images[index] == resize_grey(grey, spec.shape)).all()


def test_a_padded_store_shows_images_and_labels_in_the_middle_of_their_frames(chest, tmp_path):
    """By hand: the longest side that fits, then black up to the frame, which `padding` names."""
    spec, images = replace(chest[0], size=(64, 64), fit="pad"), chest[1]
    store = stores.open_store(images, spec, tmp_path)
    assert store.padded and not chest[2].padded and chest[2].padding(0) is None
    assert len({store.frame.box(store.shape(index)) for index in range(4)}) == 4
    for index, image in enumerate(images):
        (height, width), (top, left) = store.shape(index), store.frame.box(store.shape(index))[:2]
        scale = 64 / max(height, width)
        size = 64 - 2 * top, 64 - 2 * left
        assert np.abs(np.array(size) - np.array([height, width]) * scale).max() <= 1
        room = (top, top), (left, left)
        assert (store.images[index] == np.pad(resize_grey(read_grey(image.path), size), room)).all()
        unpacked = bitplane.unpack(store.planes[index], len(spec.classes))
        for number, mask in enumerate(masks(image, spec)):
            covered = cv2.resize(mask.astype(np.float32), size[::-1], interpolation=cv2.INTER_AREA)
            assert (unpacked[..., number] == np.pad(covered > 0.4999, room)).all()
        beside = np.pad(np.zeros(size, bool), room, constant_values=True)
        assert (store.padding(index) == 255 * beside[..., None]).all()
    assert (pickle.loads(pickle.dumps(store)).padding(1) == store.padding(1)).all()


def test_images_of_the_frames_aspect_are_the_same_bytes_padded_or_stretched(hand, tmp_path):
    spec, images, store = hand
    padded = stores.open_store(images, replace(spec, fit="pad"), tmp_path)
    assert not padded.padded
    assert (padded.images == store.images).all() and (padded.planes == store.planes).all()


def test_truth_is_the_whole_frames_union(case):
    spec, images, store = case
    for index, image in enumerate(images):
        expected = masks(image, spec).astype(bool)
        truth = store.truth(index)
        assert len(truth) == len(spec.classes)
        for number, cut in enumerate(truth):
            assert (cutout.to_mask(cut, store.shape(index)) == expected[number]).all()


def test_repeated_labels_are_united(chest):
    """The opacities have one polygon in each lung, so their mask has two parts."""
    _, _, store = chest
    mask = cutout.to_mask(store.truth(0)[4], store.shape(0))
    assert cv2.connectedComponents(mask.astype(np.uint8))[0] == 3


def test_the_key_depends_on_all_that_the_content_does(copy):
    spec, images, cache = copy

    def key(some=images, other=spec):
        return stores.key(some, other, cache)

    keys = [key(), key(other=replace(spec, size=96)), key(images[1:])]
    keys.append(key(other=replace(spec, classes=spec.classes[::-1])))
    keys.append(key(images[::-1]))
    keys.append(key(other=replace(spec, fit="pad")))
    for path in (images[0].annotation, images[0].path):
        with path.open("ab") as file:
            file.write(b" ")
        keys.append(key())
    assert len(set(keys)) == len(keys)
    assert key(other=replace(spec, mean=0.3)) == keys[-1]


def test_an_edit_of_equal_length_is_noticed(copy):
    spec, images, cache = copy
    path, before = images[0].annotation, stores.key(images, spec, cache)
    state, text = path.stat(), path.read_text()
    path.write_text(text.replace('"label"', '"lebal"', 1))
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert stores.key(images, spec, cache) != before
    path.write_text(text)
    assert stores.key(images, spec, cache) == before, "contents count, not times"


def test_the_same_data_at_another_place_has_the_same_store(copy, tmp_path):
    spec, images, cache = copy
    moved = replace(spec, root=str(shutil.copytree(spec.root, tmp_path / "moved")))
    assert stores.key(train_images(moved), moved, cache) == stores.key(images, spec, cache)


def test_it_is_built_once(copy, monkeypatch):
    spec, images, cache = copy
    first = stores.open_store(images, spec, cache)
    monkeypatch.setattr(stores, "prepare", None)
    again = stores.open_store(images, spec, cache)
    assert again.folder == first.folder
    assert (again.planes == first.planes).all()


def test_a_changed_annotation_is_rebuilt(copy):
    spec, images, cache = copy
    before = np.array(stores.open_store(images, spec, cache).planes[0])
    images[0].annotation.write_text('{"annotations": []}')
    assert before.any()
    assert not stores.open_store(images, spec, cache).planes[0].any()


def test_a_failing_build_leaves_nothing(copy):
    spec, images, cache = copy
    images[3].annotation.write_text("{")
    with pytest.raises(BonepipeError, match=rf"{images[3].annotation.name}: broken JSON"):
        stores.open_store(images, spec, cache)
    assert [path for path in cache.iterdir() if path.suffix != ".lock"] == []


BUILD = """
import os, pickle, signal, sys
from bonepipe.data import store
store._flatten = lambda rows: os.kill(os.getpid(), signal.SIGKILL)
spec, images, cache = pickle.load(open(sys.argv[1], "rb"))
store.open_store(images, spec, cache)
"""


def test_a_killed_build_is_done_again_and_nothing_of_it_stays(copy, tmp_path):
    spec, images, cache = copy
    (tmp_path / "asked").write_bytes(pickle.dumps(copy))
    killed = subprocess.run([sys.executable, "-c", BUILD, str(tmp_path / "asked")], capture_output=True, check=False)
    (part,) = (path for path in cache.iterdir() if path.is_dir())
    assert killed.returncode == -9 and (part / "images.npy").is_file()
    leftovers.sweep_once.cache_clear()  # as in a new process
    store = stores.open_store(images, spec, cache)
    assert store.images.any()
    assert [path for path in cache.iterdir() if path.is_dir()] == [store.folder]


def cut(path):
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)


def flip(path, at=-5):
    content = bytearray(path.read_bytes())
    content[at] ^= 16
    path.write_bytes(content)


def to_folder(path):
    path.unlink()
    path.mkdir()


DAMAGE = {
    "cut short": cut,
    "empty": lambda path: path.write_bytes(b""),
    "missing": lambda path: path.unlink(),
    "garbage": lambda path: path.write_bytes(b"garbage" * 100),
    "a flipped bit in the header": lambda path: flip(path, 60),
    "a flipped bit": flip,
    "a folder": to_folder,
    "a link that leads nowhere": lambda path: (path.unlink(), path.symlink_to("nothing")),
}
FILES = ("images.npy", "planes.npy", "outlines.npz", "wide/images.npy", "wide/planes.npy", "contents.json")


@pytest.fixture(scope="module")
def small(chest_root, tmp_path_factory):
    """Two chests in a store with finer images beside it."""
    spec = replace(data_spec("chest", chest_root, 32), supersample=2)
    images = train_images(spec)[:2]
    return spec, images, stores.open_store(images, spec, tmp_path_factory.mktemp("small"))


def content_of(store):
    files = [path for path in store.folder.rglob("*") if path.is_file() and path.name != "outlines.npz"]
    return {path.relative_to(store.folder): path.read_bytes() for path in files if path.name != "contents.json"}


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("how", DAMAGE)
def test_a_damaged_store_is_noticed_and_built_anew(small, tmp_path, capsys, file, how):
    spec, images, whole = small
    folder = shutil.copytree(whole.folder, tmp_path / whole.folder.name)
    DAMAGE[how](folder / file)
    store = stores.open_store(images, spec, tmp_path)
    told = capsys.readouterr().err
    assert f"{folder}: this image store cannot be used (" in told and "), so it is built anew" in told
    assert content_of(store) == content_of(whole)
    stores.open_store(images, spec, tmp_path)
    assert "anew" not in capsys.readouterr().err


@pytest.mark.parametrize("what", ["a file", "an empty folder", "a link that leads nowhere"])
def test_what_lies_in_place_of_a_store_makes_room(small, tmp_path, capsys, what):
    spec, images, whole = small
    folder = tmp_path / whole.folder.name
    {"a file": folder.touch, "an empty folder": folder.mkdir}.get(what, lambda: folder.symlink_to("nothing"))()
    assert content_of(stores.open_store(images, spec, tmp_path)) == content_of(whole)
    assert "so it is built anew" in capsys.readouterr().err


def test_a_good_store_is_not_read_to_know_it(small, tmp_path, monkeypatch):
    """Once looked at, it costs a look at the files' times."""
    spec, images, whole = small
    shutil.copytree(whole.folder, tmp_path / whole.folder.name)
    monkeypatch.setattr("bonepipe.digests.UNSETTLED", -1)
    stores.open_store(images, spec, tmp_path)
    monkeypatch.setattr("bonepipe.digests.digest", None)
    assert content_of(stores.open_store(images, spec, tmp_path)) == content_of(whole)


def test_a_damaged_store_that_cannot_be_removed_is_named(small, tmp_path, monkeypatch):
    spec, images, whole = small
    folder = shutil.copytree(whole.folder, tmp_path / whole.folder.name)
    cut(folder / "images.npy")

    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(stores, "remove", refuse)  # tests may run as root, whom no permission stops
    with pytest.raises(BonepipeError, match=rf"{folder}: .*images\.npy is not as .*Permission denied.*remove it your"):
        stores.open_store(images, spec, tmp_path)


def test_a_pickle_is_small_and_opens_the_same_arrays(hand):
    _, _, store = hand
    data = pickle.dumps(store)
    assert len(data) < 4000
    assert len(data) < store.planes.nbytes / 50
    other = pickle.loads(data)
    assert isinstance(other.planes, np.memmap)
    for name in ("images", "planes", "shapes", "points", "starts", "classes", "owners"):
        assert (getattr(other, name) == getattr(store, name)).all()
    assert (other.names, other.class_count, other.folder) == (store.names, store.class_count, store.folder)


def test_threads_that_ask_at_once_get_one_store(copy, monkeypatch):
    spec, images, cache = copy
    built = []
    monkeypatch.setattr(stores, "_build", lambda *args, build=stores._build: (built.append(1), build(*args)))
    with ThreadPoolExecutor(4) as pool:
        opened = list(pool.map(lambda _: stores.open_store(images, spec, cache), range(4)))
    assert built == [1]
    assert len({store.folder for store in opened}) == 1
    assert [path for path in cache.iterdir() if path.is_dir()] == [opened[0].folder]


PROGRAM = """
import pickle, sys
from bonepipe.data import store
build = store._build
store._build = lambda *arguments: (print("built"), build(*arguments))
spec, images, cache = pickle.load(open(sys.argv[1], "rb"))
print(store.open_store(images, spec, cache).images.sum())
"""


def test_processes_that_ask_at_once_get_one_store(copy, tmp_path):
    (tmp_path / "asked").write_bytes(pickle.dumps(copy))
    command = [sys.executable, "-c", PROGRAM, str(tmp_path / "asked")]
    asking = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    printed = [process.communicate(timeout=60)[0].split() for process in asking]
    assert sorted(map(len, printed)) == [1, 2]
    assert printed[0][-1] == printed[1][-1]
