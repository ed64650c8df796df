import io
import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

from bonepipe.data.image import SUFFIXES, read_grey, read_shape, resize_grey
from bonepipe.errors import BonepipeError


@pytest.fixture
def picture():
    return np.random.default_rng(0).integers(0, 256, (23, 31)).astype(np.uint8)


def save(path, pixels, **options):
    Image.fromarray(pixels).save(path, **options)
    return path


def luma(rgb):
    return rgb[..., :3].astype(float) @ (0.299, 0.587, 0.114)


def test_grey_is_read_as_it_is(tmp_path, picture):
    read = read_grey(save(tmp_path / "a.png", picture))
    assert read.dtype == np.uint8
    assert (read == picture).all()


def test_equal_channels_give_their_value(tmp_path, picture):
    for channels in (3, 4):
        pixels = np.dstack([picture] * 3 + [np.full_like(picture, 7)] * (channels - 3))
        assert (read_grey(save(tmp_path / "a.png", pixels)) == picture).all()


def test_colours_become_luma(tmp_path):
    rgb = np.random.default_rng(1).integers(0, 256, (20, 30, 4)).astype(np.uint8)
    for channels in (3, 4):  # alpha is ignored, not multiplied in
        read = read_grey(save(tmp_path / "a.png", rgb[..., :channels]))
        assert np.abs(read - luma(rgb)).max() <= 1.5


def test_palette_is_looked_up(tmp_path):
    rgb = np.random.default_rng(2).integers(0, 256, (4, 5, 3)).astype(np.uint8)  # 20 colours fit a palette
    image = Image.fromarray(rgb).quantize(20)
    image.save(tmp_path / "a.png")
    assert Image.open(tmp_path / "a.png").mode == "P"
    assert np.abs(read_grey(tmp_path / "a.png") - luma(np.asarray(image.convert("RGB")))).max() <= 1.5


def test_one_bit_is_black_and_white(tmp_path):
    bits = np.eye(9, dtype=bool)
    Image.fromarray(bits).save(tmp_path / "a.png")
    assert (read_grey(tmp_path / "a.png") == bits * 255).all()


@pytest.mark.parametrize(
    ("brightest", "full"), [(200, 255), (1000, 1023), (4095, 4095), (16000, 16383), (40000, 65535)]
)
def test_deep_images_are_scaled_from_their_bit_depth(tmp_path, brightest, full):
    deep = np.linspace(0, brightest, 300).reshape(15, 20).astype(np.uint16)
    assert (read_grey(save(tmp_path / "a.png", deep)) == np.rint(deep * (255.0 / full))).all()


@pytest.mark.parametrize("bits", [8, 10, 12, 14])
def test_hot_pixels_and_markers_do_not_darken_a_deep_image(tmp_path, bits):
    eight = cv2.resize(smooth(), (400, 300), interpolation=cv2.INTER_LINEAR)
    deep = np.rint(eight * (((1 << bits) - 1) / 255)).astype(np.uint16)
    hot, marked = deep.copy(), deep.copy()
    hot[7, 9] = 1 << bits
    marked[10:50, 20:80] = 65535  # 2% of the pixels
    blurred = cv2.GaussianBlur(marked, (3, 3), 0)
    both = marked.copy()
    both[20:30, 20:30], both[100, 100], both[200, 200] = 60000, 50000, 1 << bits
    inside = np.zeros(deep.shape, bool)
    inside[8:52, 18:82] = True
    for pixels in (deep, hot, marked, blurred, both):
        read = read_grey(save(tmp_path / "a.png", pixels))
        apart = np.abs(read[~inside].astype(int) - eight[~inside])
        assert (apart > (2 if pixels is blurred else 0)).sum() <= 3
    assert (read[12:48, 22:78] == 255).all(), "a marker is white"


@pytest.mark.parametrize("factor", [1, 4, 16, 64, 257])
def test_the_same_radiograph_reads_alike_however_deep_it_was_saved(tmp_path, factor):
    eight = smooth()
    read = read_grey(save(tmp_path / "a.png", eight.astype(np.uint16) * factor))
    assert np.abs(read.astype(int) - eight).max() <= 1


def test_bright_bone_on_a_few_pixels_is_no_marker(tmp_path):
    deep = np.zeros((100, 100), np.uint16)
    deep[:, :40] = np.linspace(0, 1000, 40)
    deep[40:50, 50:60] = np.arange(2000, 4000, 20).reshape(10, 10)  # 1% of the pixels, of many values
    assert (read_grey(save(tmp_path / "a.png", deep)) == np.rint(deep * (255 / 4095))).all()


def test_deep_colour_is_read(tmp_path):
    deep = np.random.default_rng(3).integers(0, 4096, (10, 12, 3)).astype(np.uint16)
    deep[0, 0] = 4095
    cv2.imwrite(str(tmp_path / "a.png"), deep[..., ::-1])
    assert np.abs(read_grey(tmp_path / "a.png") - luma(deep) * (255 / 4095)).max() <= 1.5


def test_every_truncation_is_refused(tmp_path, picture):
    whole = save(tmp_path / "a.png", picture).read_bytes()
    for length in (0, 3, 30, len(whole) // 2, len(whole) - 13, len(whole) - 1):
        (tmp_path / "cut.png").write_bytes(whole[:length])
        with pytest.raises(BonepipeError, match=r"cut\.png: (truncated PNG|cannot be decoded)"):
            read_grey(tmp_path / "cut.png")


def test_bytes_after_the_end_do_no_harm(tmp_path, picture):
    path = save(tmp_path / "a.png", picture)
    path.write_bytes(path.read_bytes() + bytes(500))
    assert (read_grey(path) == picture).all()


@pytest.mark.parametrize("content", [b"", b"no image", b"\x89PNG\r\n\x1a\n" + b"\0" * 40 + b"IEND\xaeB`\x82"])
def test_no_image_is_refused(tmp_path, content):
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(BonepipeError, match=r"a\.png: cannot be decoded"):
        read_grey(tmp_path / "a.png")


def test_an_absurd_size_is_refused(tmp_path, picture):
    path = save(tmp_path / "a.png", picture)
    data = bytearray(path.read_bytes())
    data[16:24] = (200_000).to_bytes(4, "big") * 2
    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    path.write_bytes(data)
    with pytest.raises(BonepipeError, match=r"a\.png: says that it has 200000 x 200000 pixels"):
        read_grey(path)


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    (tmp_path / "folder.png").mkdir()
    for name in ("none.png", "folder.png"):
        with pytest.raises(BonepipeError, match=rf"{name}: cannot be read"):
            read_grey(tmp_path / name)


def strips_first(pixels, rows=5, order="<", packed=False, white_is_zero=False):
    """A TIFF whose directory comes before its strips, so that a cut one still says what it should hold."""
    height, width = pixels.shape
    pixels = pixels.astype(pixels.dtype.newbyteorder(order))
    strips = [pixels[start : start + rows].tobytes() for start in range(0, height, rows)]
    strips = [zlib.compress(strip) for strip in strips] if packed else strips
    behind = 8 + 2 + 12 * 9 + 4
    starts = behind + 8 * len(strips) + np.cumsum([0, *map(len, strips)])[:-1]
    fields = [
        (256, [width]), (257, [height]), (258, [pixels.itemsize * 8]), (259, [8 if packed else 1]),
        (262, [0 if white_is_zero else 1]), (273, starts), (277, [1]), (278, [rows]), (279, map(len, strips)),
    ]  # fmt: skip
    head, tail = struct.pack(f"{order}2sHIH", b"II" if order == "<" else b"MM", 42, 8, len(fields)), b""
    for tag, given in fields:
        values = list(given)
        kind = "I" if len(values) > 1 else "H"
        data = struct.pack(f"{order}{len(values)}{kind}", *values)
        if len(data) > 4:
            data, tail = struct.pack(f"{order}I", behind + len(tail)), tail + data
        head += struct.pack(f"{order}HHI", tag, 4 if kind == "I" else 3, len(values)) + data.ljust(4, b"\0")
    return head + bytes(4) + tail + b"".join(strips)


def smooth(shape=(60, 80), seed=5):
    """A picture that JPEG hardly changes."""
    noise = np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)
    return cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 4), None, 0, 255, cv2.NORM_MINMAX)


def encode(suffix, pixels, *options):
    ok, data = cv2.imencode(suffix, pixels, options)
    assert ok
    return data.tobytes()


def test_the_suffixes_are_those_of_the_formats():
    assert SUFFIXES == (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".dcm", ".dicom")


@pytest.mark.parametrize("suffix", SUFFIXES[:-2])
def test_every_format_is_read_grey_and_in_colour(tmp_path, suffix):
    path, grey, off = tmp_path / f"a{suffix.upper()}", smooth(), 6 if "jp" in suffix else 0
    path.write_bytes(encode(suffix, grey))
    read = read_grey(path)
    assert (read.dtype, read.shape) == (np.uint8, grey.shape)
    assert np.abs(read.astype(int) - grey).max() <= off
    colours = np.dstack([grey, grey[::-1], grey[:, ::-1]])
    path.write_bytes(encode(suffix, colours))
    assert np.abs(read_grey(path) - luma(colours[..., ::-1])).max() <= off + 1.5


@pytest.mark.parametrize("compression", [1, 5, 8, 32773])
@pytest.mark.parametrize(
    ("brightest", "full"), [(200, 255), (1000, 1023), (4095, 4095), (16000, 16383), (40000, 65535)]
)
def test_deep_tiffs_are_scaled_from_their_bit_depth(tmp_path, brightest, full, compression):
    deep = np.linspace(0, brightest, 300).reshape(15, 20).astype(np.uint16)
    (tmp_path / "a.tif").write_bytes(encode(".tif", deep, cv2.IMWRITE_TIFF_COMPRESSION, compression))
    assert (read_grey(tmp_path / "a.tif") == np.rint(deep * (255.0 / full))).all()


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
def test_tiffs_that_count_from_white_are_turned_round(tmp_path, order, packed, depth):
    pixels, path = (
        np.linspace(0, 4095 if depth is np.uint16 else 255, 280).reshape(14, 20).astype(depth),
        tmp_path / "a",
    )
    path.write_bytes(strips_first(pixels, order=order, packed=packed))
    grey = read_grey(path)
    assert (grey == np.rint(pixels * (255 / pixels.max()))).all()
    path.write_bytes(strips_first(pixels, order=order, packed=packed, white_is_zero=True))
    assert (read_grey(path) == 255 - grey).all()


WHOLE = {
    "JPEG": encode(".jpg", smooth()),
    "progressive JPEG": encode(".jpg", smooth(), cv2.IMWRITE_JPEG_PROGRESSIVE, 1),
    "BMP": encode(".bmp", smooth()),
    "colour BMP": encode(".bmp", np.dstack([smooth()] * 3)),
    "TIFF": encode(".tif", smooth()),
    "deep TIFF": encode(".tif", smooth().astype(np.uint16) * 16),
    "strips": strips_first(smooth()),
    "packed strips": strips_first(smooth(), packed=True),
    "deep strips": strips_first(smooth().astype(np.uint16) * 16),
    "deep packed strips": strips_first(smooth().astype(np.uint16) * 16, packed=True, order=">"),
}


@pytest.mark.parametrize("kind", WHOLE)
def test_half_an_image_is_refused_whatever_its_format(tmp_path, capfd, kind):
    whole, path = WHOLE[kind], tmp_path / "cut"
    path.write_bytes(whole)
    image, least = read_grey(path), len(whole) - 4  # OpenCV ends a TIFF with four bytes that nobody needs
    assert image.shape == (60, 80)
    for length in (*range(1, least, 97), *range(least - 8, len(whole))):
        path.write_bytes(whole[:length])
        if kind == "TIFF" and length >= least:
            assert (read_grey(path) == image).all()
            continue
        with pytest.raises(BonepipeError, match=r"cut: (truncated|cannot be decoded).*; copy the file again"):
            read_grey(path)
    assert capfd.readouterr().err == "", "the decoder's own messages name no file"


def test_a_jpeg_that_lacks_its_end_is_said_to_be_cut_short(tmp_path):
    whole = WHOLE["JPEG"]
    for content in (whole[:-1], whole[:-2], whole[:300], whole[: len(whole) // 2] + bytes(len(whole))):
        (tmp_path / "a.jpg").write_bytes(content)
        with pytest.raises(BonepipeError, match=r"a\.jpg: truncated JPEG \(no end marker after"):
            read_grey(tmp_path / "a.jpg")


def test_the_end_of_a_thumbnail_is_not_that_of_the_image(tmp_path):
    thumbnail = WHOLE["JPEG"]
    head, body = b"\xff\xd8", encode(".jpg", smooth((200, 300)))[2:]
    whole = head + b"\xff\xe1" + struct.pack(">H", 2 + 6 + len(thumbnail)) + b"Exif\0\0" + thumbnail + body
    (tmp_path / "a.jpg").write_bytes(whole)
    assert read_grey(tmp_path / "a.jpg").shape == (200, 300)
    for length in (len(thumbnail) + 12, len(whole) - len(body) // 2, len(whole) - 2):
        (tmp_path / "a.jpg").write_bytes(whole[:length])
        with pytest.raises(BonepipeError, match=r"a\.jpg: cannot be decoded"):
            read_grey(tmp_path / "a.jpg")


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_a_turned_image_is_read_as_viewers_show_it(tmp_path, kind):
    pixels, exif = smooth(), Image.Exif()
    exif[0x112] = 6  # to be turned clockwise
    read = read_grey(save(tmp_path / "a", pixels, format=kind, exif=exif))
    assert read.shape == (80, 60)
    assert np.abs(read - np.rot90(pixels, -1).astype(int)).max() <= 12


def with_chunk(png, kind, content, before):
    """A PNG with one more part before that of a kind."""
    part = struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
    place = png.index(before) - 4
    return png[:place] + part + png[place:]


@pytest.mark.parametrize("before", [b"IDAT", b"IEND"])
def test_the_shape_is_that_of_the_image_as_it_is_read(tmp_path, before):
    """Whatever its suffix says, and turned where its metadata says so, in front of the pixels or after them."""
    exif = Image.Exif()
    exif[0x112] = 6
    turned = with_chunk(encode(".png", smooth()), b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0"), before)
    others = [(whole, (60, 80)) for whole in WHOLE.values()]
    for content, shape in ((encode(".png", smooth()), (60, 80)), (turned, (80, 60)), *others):
        (tmp_path / "a.png").write_bytes(content)
        assert read_shape(tmp_path / "a.png") == read_grey(tmp_path / "a.png").shape == shape


def test_a_png_that_is_not_whole_has_no_shape(tmp_path):
    whole, path = encode(".png", smooth()), tmp_path / "a.png"
    for length in range(0, len(whole) - 4, 7):
        path.write_bytes(whole[:length])
        with pytest.raises(BonepipeError, match=r"a\.png: (truncated PNG|cannot be decoded)"):
            read_shape(path)
    with pytest.raises(BonepipeError, match=r"none\.png: cannot be read"):
        read_shape(tmp_path / "none.png")


def test_a_png_with_the_suffix_of_another_format_is_read(tmp_path):
    (tmp_path / "a.dcm").write_bytes(encode(".png", smooth()))
    assert (read_grey(tmp_path / "a.dcm") == smooth()).all()


def test_of_several_pages_the_first_is_read(tmp_path):
    pages, file = [Image.fromarray(smooth(seed=seed)) for seed in (1, 2)], io.BytesIO()
    pages[0].save(file, "TIFF", save_all=True, append_images=pages[1:])
    (tmp_path / "a.tif").write_bytes(file.getvalue())
    assert (read_grey(tmp_path / "a.tif") == np.asarray(pages[0])).all()


@pytest.mark.parametrize("kind", [np.float32, np.float64, np.int32])
def test_numbers_that_are_no_greys_are_refused(tmp_path, kind):
    (tmp_path / "a.tif").write_bytes(encode(".tif", (smooth() / 255).astype(kind)))
    with pytest.raises(BonepipeError, match=rf"a\.tif: has {np.dtype(kind)} pixels; export it with 8 or 16 bits"):
        read_grey(tmp_path / "a.tif")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.dcm", b""),
        ("a.DCM", bytes(300)),
        ("IM0001", bytes(128) + b"DICM"),
        ("a.png", bytes(128) + b"DICM" + b"x" * 99),
    ],
)
def test_dicom_without_an_image_is_named_and_the_way_out_with_it(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(
        BonepipeError, match=rf"{name}: .*(cannot be decoded as an image.*|no image); copy the file again"
    ):
        read_grey(tmp_path / name)


def test_shrinking_averages_blocks():
    image = np.random.default_rng(4).integers(0, 256, (24, 36)).astype(np.uint8)
    blocks = image.reshape(8, 3, 12, 3).mean((1, 3))
    assert np.abs(resize_grey(image, (8, 12)) - blocks).max() <= 0.5 + 1e-4


def test_an_axis_that_shrinks_is_averaged_while_the_other_grows():
    """Stripes of one bright row in four have the mean 64 wherever they begin."""
    for first in range(4):
        stripes = np.zeros((512, 50), np.uint8)
        stripes[first::4] = 255
        for image, size in ((stripes, (128, 128)), (stripes.T, (128, 128))):
            assert np.abs(resize_grey(np.ascontiguousarray(image), size).astype(int) - 64).max() <= 1
    image = np.random.default_rng(5).integers(0, 256, (24, 10)).astype(np.uint8)
    means = np.stack([image[top : top + 3].mean(0) for top in range(0, 24, 3)])  # rows by threes, slow and obvious
    centres = np.clip((np.arange(25) + 0.5) * 10 / 25 - 0.5, 0, 9)
    expected = np.stack([np.interp(centres, np.arange(10), row) for row in means])
    assert np.abs(resize_grey(image, (8, 25)) - expected).max() <= 1.5
    assert np.abs(resize_grey(np.ascontiguousarray(image.T), (25, 8)) - expected.T).max() <= 1.5


def test_a_ramp_stays_linear_and_symmetric():
    ramp = np.tile(np.arange(0, 240, 2, dtype=np.uint8), (60, 1))  # value 2x at pixel x, 120 wide
    for width in (40, 50, 90):
        small = resize_grey(ramp, (30, width)).astype(float)
        centres = (np.arange(width) + 0.5) * 120 / width - 0.5  # aligned centres, in source pixels
        assert np.abs(small - 2 * centres).max() <= 1.0
        mirrored = resize_grey(np.ascontiguousarray(ramp[:, ::-1]), (30, width))[:, ::-1]
        assert np.abs(small - mirrored).max() <= 1


def test_enlarging_aligns_centres():
    ramp = np.tile(np.arange(10, 250, 8, dtype=np.uint8), (30, 1))  # value 10 + 8x
    large = resize_grey(ramp, (60, 75)).astype(float)
    centres = np.clip((np.arange(75) + 0.5) * 30 / 75 - 0.5, 0, 29)
    assert np.abs(large - (10 + 8 * centres)).max() <= 1


def test_the_same_size_is_the_same_array(picture):
    assert resize_grey(picture, picture.shape) is picture
