"""Small files that claim much: refused by name, before anything is set aside for them, in bounded time and memory."""

import io
import json
import shutil
import zlib

import bombs  # pytest's option pythonpath has its folder
import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread
from pydicom.encaps import encapsulate
from pydicom.uid import JPEG2000Lossless, JPEGBaseline8Bit, JPEGLSLossless, RLELossless

from bonepipe import config as configs
from bonepipe.cli import main
from bonepipe.data import headers
from bonepipe.data.limits import DEFAULTS, Limits, parse
from bonepipe.errors import BonepipeError, UsageError

MOST_MIB, MOST_SECONDS = 300, 20  # this machine may be slow; without limits it was gigabytes and minutes
PIXELS = "data.limits.pixels=100000000 is the most"


ENTRY = {"label": "Ulna", "points": [[1, 1], [2000, 1], [2000, 2000]]}


def listing(*entries):
    return json.dumps({"annotations": [*entries]}).encode()


def star():
    return listing(ENTRY | {"points": np.random.default_rng(0).integers(0, 2048, (10**5, 2)).tolist()})


def short_steps():
    return listing(ENTRY | {"points": [[x % 2, 0] for x in range(10**6)]})


# File -> (what makes its content, what is said of it).
FILES = {
    "bits.png": (lambda: bombs.png(32_000, 32_000, rows=99), f"says that it has 32000 x 32000 pixels; {PIXELS}"),
    "deep.png": (lambda: bombs.png(30_000, 30_000, 16, 6, rows=9), f"says that it has 30000 x 30000 pixels; {PIXELS}"),
    "a.jpg": (lambda: bombs.jpeg(65_500, 65_500), "says that it has 65500 x 65500 pixels"),
    "padded.jpg": (lambda: bombs.jpeg(65_500, 65_500, 0xC2, b"\xff\xff\xff\xe0\0\4ab-junk-"), "65500 x 65500 pixels"),
    "many.jpg": (lambda: bombs.jpeg(9, 9, padding=b"\xff\x01" * 10**6), "cannot be decoded"),
    "scans.jpg": (lambda: bombs.jpeg(9, 9)[:-2] + b"\xff\xda" * 300 + b"\xff\xd9", "a JPEG of 300 scans, and 200 are"),
    "a.tif": (lambda: bombs.tiff(60_000, 60_000), "says that it has 60000 x 60000 pixels"),
    "b.tif": (lambda: bombs.tiff(60_000, 60_000, big=True), "says that it has 60000 x 60000 pixels"),
    "c.tif": (lambda: bombs.tiff(60_000, 60_000, order=">"), "says that it has 60000 x 60000 pixels"),
    "tile.tif": (lambda: bombs.tiff(10, 10, tile=(32_768, 32_768)), "says that it has 32768 x 32768 pixels"),
    "a.bmp": (lambda: bombs.bmp(50_000, -50_000), "says that it has 50000 x 50000 pixels"),
    "star.json": (star, "a scribble: redraw it; data.limits.length=131072"),
    "points.json": (short_steps, "annotations: has 1000000 points; data.limits.points=500000"),
    "entries.json": (lambda: listing(*[{}] * 10**5), "annotations: has 100000 entries; data.limits.outlines=2000"),
    "deep.json": (lambda: b"[" * 10**6, "broken JSON"),
    "wide.csv": (
        lambda: b"image_name,class,action,value\na.png,Ulna,replace,1 1000000000000\n",
        "no image has a pixel 1000000000000",
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory, write_dicom):
    """The files, and those that are made with other tools."""
    folder = tmp_path_factory.mktemp("bombs")
    for name, (make, _) in FILES.items():
        (folder / name).write_bytes(make())
    pages = [Image.new("L", (8, 8), number % 256) for number in range(300)]
    pages[0].save(folder / "pages.tif", save_all=True, append_images=pages[1:])
    pages[0].save(folder / "moving.png", save_all=True, append_images=pages[1:50])
    pixels = np.zeros((40, 50), np.uint8)
    for name, syntax, frame in (
        ("jpeg", JPEGBaseline8Bit, bombs.jpeg(65_500, 65_500)),
        ("ls", JPEGLSLossless, bombs.jpeg(65_500, 65_500, 0xF7)),
        ("j2k", JPEG2000Lossless, bombs.jpeg_2000(10**5, 10**5)),
    ):
        rewrite(write_dicom(folder / f"{name}.dcm", pixels), syntax, PixelData=encapsulate([frame]))
    rewrite(write_dicom(folder / "rows.dcm", pixels), Rows=65_000, Columns=65_000)
    rewrite(
        write_dicom(folder / "rle.dcm", pixels),
        RLELossless,
        PixelData=encapsulate([b"\1"]),
        Rows=65_000,
        Columns=65_000,
    )
    rewrite(write_dicom(folder / "frames.dcm", pixels), NumberOfFrames=10**9)
    whole = write_dicom(folder / "deflated.dcm", pixels, "DeflatedExplicitVRLittleEndian").read_bytes()
    start = 144 + int.from_bytes(whole[140:144], "little")
    (folder / "deflated.dcm").write_bytes(whole[:start] + deflated(zlib.decompress(whole[start:], -15), 40))
    bombs.sparse(folder / "sparse.png", 1 << 40)
    bombs.sparse(folder / "sparse.json", 1 << 36)
    (folder / "sparse.csv").write_text("image_name,class,rle\n")
    bombs.sparse(folder / "sparse.csv", 1 << 36)
    for name, changes in {
        "far": [(b'r="2"', b'r="999999999999"')],
        "broad": [(b'r="B2"', b'r="XFD2"')],
        "large": [(b"<sheetData>", b"<!--" + b"x" * (65 << 20) + b"--><sheetData>")],
    }.items():
        (folder / name).mkdir()
        bombs.workbook(folder / name / "meta_data.xlsx", *changes)
    return folder


def rewrite(path, syntax=None, **elements):
    dataset = dcmread(path)
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    if syntax is not None:
        dataset.file_meta.TransferSyntaxUID, dataset["PixelData"].VR = syntax, "OB"
    dataset.save_as(path)


def deflated(content, mebibytes):
    """A content and so many further bytes."""
    pack = zlib.compressobj(1, zlib.DEFLATED, -15)
    return pack.compress(content) + b"".join(pack.compress(bytes(1 << 20)) for _ in range(mebibytes)) + pack.flush()


READ = {
    ".png": ("image", "shape"), ".jpg": ("image", "shape"), ".tif": ("image", "shape"), ".bmp": ("image",),
    ".json": ("annotation",), ".csv": ("corrections",),
}  # fmt: skip
MORE = [
    ("image", "pages.tif", "(8, 8)"), ("shape", "moving.png", "(8, 8)"), ("image", "moving.png", "(8, 8)"),
    ("image", "jpeg.dcm", "jpeg.dcm: Pixel Data (7FE0,0010): says that it has 65500 x 65500 pixels"),
    ("image", "ls.dcm", "ls.dcm: Pixel Data (7FE0,0010): says that it has 65500 x 65500 pixels"),
    ("image", "j2k.dcm", "j2k.dcm: Pixel Data (7FE0,0010): says that it has 100000 x 100000 pixels"),
    ("image", "rows.dcm", "rows.dcm: says that it has 65000 x 65000 pixels"),
    ("shape", "rows.dcm", "rows.dcm: says that it has 65000 x 65000 pixels"),
    ("shape", "rle.dcm", "rle.dcm: says that it has 65000 x 65000 pixels"),
    ("image", "frames.dcm", "frames.dcm: Number of Frames (0028,0008) is 1000000000"),
    ("small", "deflated.dcm", "its deflated content has more than 24777216 bytes; data.limits.pixels=1000000"),
    ("facts", "deflated.dcm", "its deflated content has more than 24777216 bytes; data.limits.pixels=1000000"),
    ("image", "sparse.png", "cannot be read (it has 1099511627776 bytes, and 816777216 are the most that are read"),
    ("annotation", "sparse.json", "it has 68719476736 bytes, and 33554432 are the most that are read"),
    ("table", "sparse.csv", "cannot be read (it has 68719476736 bytes"),
    ("corrections", "sparse.csv", "cannot be read (it has 68719476736 bytes"),
    ("rows", "sparse.csv", "a line has more than 67108864 letters"),
    ("metadata", "far", "meta_data.xlsx: cannot be read as a spreadsheet ('it has more than 100000 rows; del"),
    ("metadata", "broad", "meta_data.xlsx: cannot be read as a spreadsheet ('it has more than 256 columns in row 2"),
    ("metadata", "large", "it has more than 67108864 bytes unpacked"),
]  # fmt: skip


@pytest.fixture(scope="module")
def told(place):
    """(reader, file) -> what a process of its own was told, and what it took."""
    cases = [(f"bombs:{read}", str(place / name)) for read, name, _ in listed()]
    results = bombs.measured(cases, place)
    return {(read, name): result for (read, name, _), result in zip(listed(), results, strict=True)}


def listed():
    single = [(read, name, said) for name, (_, said) in FILES.items() for read in READ[f".{name.rpartition('.')[2]}"]]
    return [*single, *MORE]


@pytest.mark.parametrize(("read", "name", "said"), listed(), ids=lambda value: value if len(value) < 20 else "")
def test_what_claims_much_is_refused_at_once(told, read, name, said):
    result = told[read, name]
    assert said in result["said"]
    assert result["said"].startswith(("refused: ", "(8, 8)"))
    assert result["seconds"] < MOST_SECONDS
    assert result["mib"] < MOST_MIB


def test_the_audit_names_them_all_in_bounded_time_and_memory(chest_root, place, tmp_path):
    shutil.copytree(chest_root, tmp_path / "data")
    images = sorted((tmp_path / "data" / "train" / "DCM").rglob("*.png"))
    for target, name in zip(images, ("bits.png", "a.jpg", "a.tif", "sparse.png"), strict=False):
        shutil.copy(place / name, target) if name != "sparse.png" else bombs.sparse(target, 1 << 40)
    labels = sorted((tmp_path / "data" / "train" / "outputs_json").rglob("*.json"))[6:]
    for target, name in zip(labels, ("star.json", "points.json", "entries.json"), strict=False):
        text = (place / name).read_text().replace("Ulna", "Airways")
        target.write_text(text)
    (tmp_path / "mended.csv").write_text("image_name,class,action,value\nscan011.png,Airways,replace,1 500000\n")
    words = ["doctor", "data=chest", "~experiment", "data.root=data", "data.corrections=mended.csv"]
    (result,) = bombs.measured([("bombs:command", *words)], tmp_path)
    assert "exit 1" in result["said"]
    for said in (
        "says that it has 32000 x 32000 pixels", "says that it has 65500 x 65500", "says that it has 60000 x 60000",
        "it has 1099511627776 bytes", "a scribble", "annotations: has 1000000 points", "has 100000 entries",
        "mended.csv: data.corrections: ", "replace: run 1: ends at pixel 500000, beyond the image's",
    ):  # fmt: skip
        assert said in result["said"]
    assert result["seconds"] < 3 * MOST_SECONDS
    assert result["mib"] < MOST_MIB


@pytest.mark.parametrize("command", ["score", "vote", "check"])
def test_a_run_of_a_million_million_pixels(chest_root, tmp_path, monkeypatch, capsys, command):
    monkeypatch.chdir(tmp_path)
    rows = (chest_root / "answer.csv").read_text().replace(",Usage", "").splitlines()
    for name, code in (("a", "1 1000000000000"), ("b", "1 4")):
        (tmp_path / f"{name}.csv").write_text("\n".join(["image_name,class,rle", f"scan012.png,Airways,{code}"]) + "\n")
    assert rows
    words = {
        "score": ["a.csv", "b.csv"], "vote": ["a.csv", "b.csv", "-o", "c.csv"],
        "check": ["a.csv", "--data", str(chest_root), "--classes", "chest"],
    }  # fmt: skip
    assert main([command, *words[command]]) == 1
    printed = capsys.readouterr()
    said = printed.err + printed.out
    assert "a.csv: line 2" in said
    assert "run 1: no image has a pixel 1000000000000; 1073741824 are the most" in said
    assert not (tmp_path / "c.csv").exists()


def coco(path, height, width, counts):
    content = {
        "categories": [{"id": 1, "name": "Ulna"}],
        "images": [{"id": 1, "file_name": "a.png", "height": height, "width": width}],
        "annotations": [
            {"image_id": 1, "category_id": 1, "segmentation": {"size": [height, width], "counts": counts}},
        ],
    }
    path.write_text(json.dumps(content))
    return str(path)


def test_annotations_of_other_tools_and_the_flag_that_raises_a_limit(tmp_path):
    big = coco(tmp_path / "big.json", 30_000, 30_000, [9, 900_000_000 - 9])
    wide = coco(tmp_path / "wide.json", 20, 30, [9, 10**12])
    (tmp_path / "label").mkdir()
    mask = io.BytesIO(bombs.png(32_000, 32_000, rows=2)).getvalue()
    shape = {"label": "a", "shape_type": "mask", "points": [[0, 0], [9, 9]], "mask": encoded(mask)}
    content = {"imagePath": "a.png", "imageHeight": 20, "imageWidth": 30, "shapes": [shape]}
    (tmp_path / "label" / "a.json").write_text(json.dumps(content))
    fine = coco(tmp_path / "fine.json", 200, 300, [9, 60_000 - 9])
    results = bombs.measured(
        [
            ("bombs:convert", big), ("bombs:convert", wide), ("bombs:convert", str(tmp_path / "label")),
            ("bombs:convert", fine, "--limits", "pixels=50000"), ("bombs:convert", fine, "--limits", "pixels=60000"),
        ],
        tmp_path,
    )  # fmt: skip
    for result, said in zip(
        results,
        [
            f"big.json: images[0]: says that it has 30000 x 30000 pixels; {PIXELS}",
            "wide.json: annotations[0].segmentation.counts: [9, 1000000000000] has not the sum of",
            "a.json: shapes[0].mask: a PNG of 32000 x 32000 pixels does not lie inside the image of 30 x 20",
            "fine.json: images[0]: says that it has 300 x 200 pixels; data.limits.pixels=50000 is the most",
            "1 images, 1 classes, 1 shapes",
        ],
        strict=True,
    ):
        assert said in result["said"]
        assert result["mib"] < MOST_MIB


def encoded(data):
    import base64

    return base64.b64encode(data).decode("ascii")


def test_limits_are_settings_and_change_no_result():
    words = ["experiment=debug", "data.limits.pixels=5000"]
    config = configs.compose(words, uses=("data",))
    assert configs.build(config, "data").limits == Limits(pixels=5000)
    for word, said in (
        ("pixels=2000000000", "less than or equal to 1073741824"),
        ("points=0", "greater than or equal"),
    ):
        with pytest.raises(UsageError, match=rf"data\.limits\.{word.split('=')[0]}.*{said}"):
            configs.compose(["experiment=debug", f"data.limits.{word}"], uses=("data",))
    from bonepipe.pipeline.steps import training_settings

    other = configs.compose(["experiment=debug"], uses=("data",))
    assert training_settings(config) == training_settings(other)
    assert configs.build(other, "data").limits == DEFAULTS, "conf/data says the defaults of the class"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("pixel=3", "did you mean 'pixels'"),
        ("pixels=x", "pixels: Input should be a valid integer"),
        ("points", "points"),
    ],
)
def test_limits_on_the_command_line(text, said):
    assert parse(None) == parse("") == DEFAULTS
    assert parse("pixels=7,points=9") == Limits(pixels=7, points=9)
    with pytest.raises(UsageError, match=said):
        parse(text)


def test_a_limit_holds_up_to_its_value(tmp_path):
    from bonepipe.data.image import read_grey

    (tmp_path / "a.png").write_bytes(bombs.png(100, 50, 8))
    assert read_grey(tmp_path / "a.png", Limits(pixels=5000)).shape == (50, 100)
    with pytest.raises(BonepipeError, match=r"a\.png: says that it has 100 x 50 pixels; data\.limits\.pixels=4999 is"):
        read_grey(tmp_path / "a.png", Limits(pixels=4999))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "BMP", "JPEG2000"])
def test_what_headers_tell_is_what_another_library_reads(kind):
    file = io.BytesIO()
    Image.new("RGB", (53, 31)).save(file, kind)
    content = file.getvalue()
    assert headers.told_shape(content) == (31, 53)
    assert headers.told_shape(content[:9]) is None


def test_no_content_of_a_header_raises():
    random = np.random.default_rng(0)
    for start in headers.READERS:
        for _ in range(200):
            shape = headers.told_shape(start + random.bytes(int(random.integers(0, 200))))
            assert shape is None or len(shape) == 2
