import subprocess
import sys
import time

import cv2
import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence
from pydicom.uid import JPEGBaseline8Bit

from bonepipe.data.image import find_images, read_grey, read_shape
from bonepipe.errors import BonepipeError

PLAIN = ("ImplicitVRLittleEndian", "ExplicitVRLittleEndian", "ExplicitVRBigEndian", "DeflatedExplicitVRLittleEndian")
PACKED = (
    "RLELossless", "JPEGLosslessProcess14_1", "JPEGLosslessProcess14", "JPEGLSLossless", "JPEG2000Lossless", "JPEG2000",
)  # fmt: skip


def ramp(bits=12, shape=(40, 52), kind=np.uint16):
    """Every part of the range of values, with noise."""
    top = (1 << bits) - 1
    slope = np.add.outer(np.arange(shape[0]), np.arange(shape[1])) / (sum(shape) - 2) * top
    noise = np.random.default_rng(3).normal(0, top / 100, shape)
    pixels = np.clip(np.rint(slope + noise), 0, top).astype(kind)
    pixels[0, 0], pixels[-1, -1] = 0, top
    return pixels


def grey_of(values, low, high):
    """Values from low (black) to high (white) as bytes: the formula, in double precision."""
    return np.rint(255 * np.clip((np.asarray(values, float) - low) / (high - low), 0, 1))


def lut(first, bits, entries, kind="US"):
    item = Dataset()
    item.add_new("LUTDescriptor", "US", [len(entries) % 65536, first, bits])
    item.add_new("LUTData", kind, entries if kind == "US" else np.array(entries, "<u2").tobytes())
    return Sequence([item])


@pytest.mark.parametrize("syntax", [*PLAIN, *PACKED])
@pytest.mark.parametrize(("bits", "kind"), [(8, np.uint8), (12, np.uint16), (16, np.uint16)])
def test_every_transfer_syntax_gives_the_same_greys(tmp_path, capfd, write_dicom, syntax, bits, kind):
    pixels = ramp(bits, kind=kind)
    path = write_dicom(tmp_path / "a.dcm", pixels, syntax, bits=bits)
    assert np.abs(read_grey(path) - grey_of(pixels, 0, (1 << bits) - 1)).max() == 0
    assert read_shape(path) == pixels.shape
    assert capfd.readouterr() == ("", "")


def test_lossy_jpeg_is_read(tmp_path, write_dicom):
    pixels = cv2.GaussianBlur(ramp(8, kind=np.uint8), (0, 0), 2)
    path = write_dicom(tmp_path / "a.dcm", pixels)
    dataset = dcmread(path)
    _, code = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 95])
    dataset.PixelData = encapsulate([code.tobytes()])
    dataset["PixelData"].VR, dataset.file_meta.TransferSyntaxUID = "OB", JPEGBaseline8Bit
    dataset.save_as(path)
    assert (read_grey(path) == cv2.imdecode(code, cv2.IMREAD_GRAYSCALE)).all()


@pytest.mark.parametrize("syntax", ["ExplicitVRLittleEndian", "JPEGLosslessProcess14_1"])
def test_signed_values_are_scaled_from_their_range(tmp_path, write_dicom, syntax):
    pixels = (ramp(12).astype(np.int16) - 1024)[:, ::-1]
    path = write_dicom(tmp_path / "a.dcm", np.ascontiguousarray(pixels), syntax, bits=16)
    assert (read_grey(path) == grey_of(pixels, -1024, 3071)).all()
    eight = np.arange(-128, 128, dtype=np.int8).reshape(16, 16)
    assert (read_grey(write_dicom(tmp_path / "b.dcm", eight)) == np.arange(256).reshape(16, 16)).all()


def test_eight_bits_without_window_are_taken_as_they_are(tmp_path, write_dicom):
    pixels = 60 + ramp(6, kind=np.uint8)
    assert (read_grey(write_dicom(tmp_path / "a.dcm", pixels)) == pixels).all()


def test_monochrome1_is_turned_round_once(tmp_path, write_dicom):
    pixels = ramp()
    expected = grey_of(pixels, 0, 4095)
    for settings in (
        {"photometric": "MONOCHROME1"},
        {"PresentationLUTShape": "INVERSE"},
        {"photometric": "MONOCHROME1", "PresentationLUTShape": "INVERSE"},
    ):
        assert (read_grey(write_dicom(tmp_path / "a.dcm", pixels, bits=12, **settings)) == 255 - expected).all()
    path = write_dicom(tmp_path / "a.dcm", pixels, bits=12, PresentationLUTShape="IDENTITY")
    assert (read_grey(path) == expected).all()


def test_the_first_window_is_applied(tmp_path, write_dicom):
    pixels = ramp()
    path = write_dicom(tmp_path / "a.dcm", pixels, bits=12, WindowCenter=[1000, 3000], WindowWidth=[801, 10])
    assert (read_grey(path) == grey_of(pixels, 999.5 - 400, 999.5 + 400)).all()  # PS3.3 C.11.2.1.2.1
    exact = {"WindowCenter": 1000.3, "WindowWidth": 801, "VOILUTFunction": "LINEAR_EXACT"}
    path = write_dicom(tmp_path / "a.dcm", pixels, bits=12, **exact)
    assert (read_grey(path) == grey_of(pixels, 1000.3 - 400.5, 1000.3 + 400.5)).all()
    path = write_dicom(tmp_path / "a.dcm", pixels, bits=12, **{**exact, "VOILUTFunction": "SIGMOID"})
    assert (read_grey(path) == np.rint(255 / (1 + np.exp(-4 * (pixels - 1000.3) / 801)))).all()


def test_a_window_is_in_units_of_rescaled_values(tmp_path, write_dicom):
    pixels, window = ramp(), {"WindowCenter": 0, "WindowWidth": 1001}
    for slope, intercept in ((2, -1000), (-1, 2000)):
        path = write_dicom(
            tmp_path / "a.dcm", pixels, bits=12, RescaleSlope=slope, RescaleIntercept=intercept, **window
        )
        assert (read_grey(path) == grey_of(slope * pixels.astype(float) + intercept, -500.5, 499.5)).all()


@pytest.mark.parametrize("bits", [8, 10, 12, 16])
@pytest.mark.parametrize("kind", ["US", "OW"])
def test_a_voi_lut_is_looked_up_and_preferred_to_a_window(tmp_path, write_dicom, bits, kind):
    pixels, top = ramp(), (1 << bits) - 1
    entries = np.rint(top * np.linspace(0, 1, 3000) ** 2).astype(int).tolist()
    settings = {"VOILUTSequence": lut(500, bits, entries, kind), "WindowCenter": 9, "WindowWidth": 9}
    path = write_dicom(tmp_path / "a.dcm", pixels, bits=12, **settings)
    places = np.clip(pixels.astype(int) - 500, 0, 2999)
    assert (read_grey(path) == grey_of(np.array(entries)[places], 0, top)).all()


def test_a_modality_lut_comes_before_the_window(tmp_path, write_dicom):
    pixels = ramp(8, kind=np.uint8)
    entries = (np.arange(256) * 16)[::-1].tolist()
    path = write_dicom(
        tmp_path / "a.dcm", pixels, ModalityLUTSequence=lut(0, 16, entries), WindowCenter=2000, WindowWidth=2001
    )
    assert (read_grey(path) == grey_of(np.array(entries)[pixels], 999.5, 2999.5)).all()


def test_padding_is_black_and_sets_no_scale(tmp_path, write_dicom):
    pixels = 1000 + ramp(10)
    pixels[:, :9] = 4095
    for photometric in ("MONOCHROME1", "MONOCHROME2"):
        settings = {"PixelPaddingValue": 4095, "photometric": photometric}
        grey = read_grey(write_dicom(tmp_path / "a.dcm", pixels, bits=12, **settings))
        inside = pixels[:, 9:]
        expected = grey_of(inside, inside.min(), inside.max())
        assert (grey[:, 9:] == (255 - expected if photometric == "MONOCHROME1" else expected)).all()
        assert (grey[:, :9] == 0).all()
    pixels[:, 3:9] = 4000
    path = write_dicom(tmp_path / "a.dcm", pixels, bits=12, PixelPaddingValue=4095, PixelPaddingRangeLimit=4000)
    assert (read_grey(path) == np.where(pixels >= 4000, 0, grey_of(pixels, inside.min(), inside.max()))).all()


def test_colours_become_luma(tmp_path, write_dicom):
    rgb = np.random.default_rng(1).integers(0, 256, (20, 30, 3)).astype(np.uint8)
    luma = rgb.astype(float) @ (0.299, 0.587, 0.114)
    for syntax in ("ExplicitVRLittleEndian", "RLELossless", "JPEGLosslessProcess14_1", "JPEG2000Lossless"):
        path = write_dicom(tmp_path / "a.dcm", rgb, syntax, photometric="RGB")
        assert np.abs(read_grey(path) - luma).max() <= 1.5
    ycc = cv2.cvtColor(rgb, cv2.COLOR_RGB2YCrCb)[..., [0, 2, 1]]
    path = write_dicom(tmp_path / "a.dcm", np.ascontiguousarray(ycc), photometric="YBR_FULL")
    assert np.abs(read_grey(path) - luma).max() <= 2.5


@pytest.mark.parametrize("bits", [8, 16])
def test_a_palette_is_looked_up(tmp_path, write_dicom, bits):
    colours = np.random.default_rng(2).integers(0, 1 << bits, (3, 256))
    settings = {}
    for name, entries in zip(("Red", "Green", "Blue"), colours, strict=True):
        settings[f"{name}PaletteColorLookupTableDescriptor"] = [256, 0, bits]
        settings[f"{name}PaletteColorLookupTableData"] = entries.astype(f"<u{bits // 8}").tobytes()
    pixels = ramp(8, kind=np.uint8)
    path = write_dicom(tmp_path / "a.dcm", pixels, photometric="PALETTE COLOR", **settings)
    luma = np.tensordot((0.299, 0.587, 0.114), colours, 1)[pixels]
    assert np.abs(read_grey(path) - luma * 255 / ((1 << bits) - 1)).max() <= 1.5


def test_a_file_without_preamble_and_meta_information_is_read(tmp_path, write_dicom):
    pixels = ramp()
    for implicit in (True, False):
        dataset = dcmread(write_dicom(tmp_path / "a.dcm", pixels, bits=12))
        del dataset.file_meta
        dataset.preamble = None
        dataset.save_as(tmp_path / "IM1", implicit_vr=implicit, little_endian=True, enforce_file_format=False)
        assert (tmp_path / "IM1").read_bytes()[:2] == b"\x08\x00"
        assert (read_grey(tmp_path / "IM1") == grey_of(pixels, 0, 4095)).all()
        assert read_shape(tmp_path / "IM1") == pixels.shape


def test_an_image_of_one_value_is_black(tmp_path, write_dicom):
    assert (read_grey(write_dicom(tmp_path / "a.dcm", np.full((9, 8), 700, np.uint16), bits=12)) == 0).all()
    path = write_dicom(tmp_path / "a.dcm", np.full((9, 8), 700, np.uint16), bits=12, PixelPaddingValue=700)
    assert (read_grey(path) == 0).all()


@pytest.mark.parametrize("syntax", ["ExplicitVRLittleEndian", "DeflatedExplicitVRLittleEndian", *PACKED])
def test_every_truncation_is_refused(tmp_path, capfd, write_dicom, syntax):
    pixels, path = ramp(shape=(24, 20)), tmp_path / "a.dcm"
    whole = write_dicom(path, pixels, syntax, bits=12).read_bytes()
    for length in range(133, len(whole) - 4, 37):
        path.write_bytes(whole[:length])
        for read in (read_grey, read_shape):
            with pytest.raises(BonepipeError, match=r"a\.dcm: .*; (copy|export)") as caught:
                read(path)
            assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"NumberOfFrames": 2}, "Number of Frames (0028,0008) is 2, and one is read; save the frame"),
        ({"PixelData": None}, "has no Pixel Data (7FE0,0010)"),
        ({"Rows": 4000}, "is cut short: Pixel Data (7FE0,0010) has 4160 of 416000 bytes; copy the file again"),
        ({"BitsAllocated": 32}, "Bits Allocated (0028,0100) is 32; export it with 8 or 16 bits"),
        ({"VOILUTFunction": "CUBIC", "WindowCenter": 5, "WindowWidth": 9}, "'CUBIC'"),
        ({"PhotometricInterpretation": None}, "PhotometricInterpretation"),
    ],
)
def test_what_is_no_single_whole_image_is_refused(tmp_path, write_dicom, change, message):
    path = write_dicom(tmp_path / "a.dcm", ramp(), bits=12)
    dataset = dcmread(path)
    for keyword, value in change.items():
        if value is None:
            delattr(dataset, keyword)
        else:
            setattr(dataset, keyword, value)
    dataset.save_as(path)
    with pytest.raises(BonepipeError) as caught:
        read_grey(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "change",
    [
        {"WindowCenter": 5, "WindowWidth": 0}, {"WindowCenter": 5, "WindowWidth": 0.5}, {"VOILUTFunction": ""},
        {"WindowCenter": [5, 9], "WindowWidth": [0, 4]}, {"WindowCenter": "", "WindowWidth": ""},
        {"RescaleSlope": "", "RescaleIntercept": ""}, {"RescaleSlope": 2, "RescaleIntercept": ""},
    ],
)  # fmt: skip
def test_elements_that_say_nothing_of_the_greys_are_passed_over(tmp_path, write_dicom, change):
    """As anonymisers and bad exports leave them."""
    path = write_dicom(tmp_path / "a.dcm", ramp(), bits=12)
    expected = read_grey(path)
    dataset = dcmread(path)
    for keyword, value in change.items():
        setattr(dataset, keyword, value)
    dataset.save_as(path)
    np.testing.assert_array_equal(read_grey(path), expected)


READ = """import sys; {}
from pathlib import Path
from bonepipe.data.image import read_grey
read_grey(Path(sys.argv[1]))"""


@pytest.mark.parametrize(
    ("missing", "syntax", "message"),
    [
        ("pydicom", "ExplicitVRLittleEndian", "is a DICOM file, and pydicom, which reads it, is missing: pip install"),
        ("gdcm", "JPEGLosslessProcess14_1", "what decodes it is missing: pip install 'bonepipe[dicom]'"),
    ],
)
def test_a_missing_package_is_named_with_the_way_out(tmp_path, write_dicom, missing, syntax, message):
    path = write_dicom(tmp_path / "a.dcm", ramp(), syntax, bits=12)
    blocked = READ.format(f"sys.modules['{missing}'] = None")
    result = subprocess.run([sys.executable, "-c", blocked, path], check=False, capture_output=True, text=True)
    assert message in result.stderr.splitlines()[-1]
    assert str(path) in result.stderr.splitlines()[-1]


def test_a_syntax_that_nobody_decodes_is_named(tmp_path, write_dicom):
    path = write_dicom(tmp_path / "a.dcm", ramp(), bits=12)
    dataset = dcmread(path)
    dataset.PixelData, dataset["PixelData"].VR = encapsulate([b"\0" * 99]), "OB"
    for syntax, message in (("4.100", "MPEG2.*is not read"), ("4.201", "High-Throughput.*a plug-in")):
        dataset.file_meta.TransferSyntaxUID = f"1.2.840.10008.1.2.{syntax}"
        dataset.save_as(path)
        with pytest.raises(BonepipeError, match=rf"a\.dcm: Transfer Syntax UID \(0002,0010\) is .*{message}"):
            read_grey(path)


def test_files_without_suffix_are_images_where_they_are_dicom(tmp_path, write_dicom):
    image = write_dicom(tmp_path / "a" / "IM0001", ramp(), bits=12)
    (tmp_path / "a" / "DICOMDIR").write_bytes(image.read_bytes())
    (tmp_path / "a" / "README").write_text("read me, and not as an image")
    other = write_dicom(tmp_path / "a" / "b.DCM", ramp(), bits=12)
    assert find_images(tmp_path) == [image, other]
    assert find_images(tmp_path, [".dcm"]) == [other]


def test_a_shape_costs_no_decoding(tmp_path, write_dicom):
    path = write_dicom(tmp_path / "a.dcm", ramp(shape=(1500, 1600)), "JPEG2000Lossless", bits=12)
    seconds = {}
    for read in (read_grey, read_shape):
        start = time.process_time()
        read(path)
        seconds[read] = time.process_time() - start
    assert seconds[read_shape] < seconds[read_grey] / 5
