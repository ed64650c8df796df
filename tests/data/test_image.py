import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

from bonepipe.data.image import read_grey, resize_grey
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
    with pytest.raises(BonepipeError, match=r"a\.png: cannot be decoded"):
        read_grey(path)


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    (tmp_path / "folder.png").mkdir()
    for name in ("none.png", "folder.png"):
        with pytest.raises(BonepipeError, match=rf"{name}: cannot be read"):
            read_grey(tmp_path / name)


def test_shrinking_averages_blocks():
    image = np.random.default_rng(4).integers(0, 256, (24, 36)).astype(np.uint8)
    blocks = image.reshape(8, 3, 12, 3).mean((1, 3))
    assert np.abs(resize_grey(image, (8, 12)) - blocks).max() <= 0.5 + 1e-4


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
