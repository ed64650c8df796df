"""Images and the folders that they lie in."""

from functools import partial
from pathlib import Path

import bombs
import cv2
import numpy as np

from bonepipe.data.image import read_grey, read_shape
from corpus.case import Case, both, copied, cut, flip, folder, gone, link, moved, nothing, pipe, put

ROOT = "data/train/DCM"
IMAGE, SECOND = f"{ROOT}/case02/scan004.png", f"{ROOT}/case02/scan005.png"
DOCTOR, SPLIT, TRAIN, SUBMIT = "doctor", "split", "train fold=0", "submit"


def encoded(suffix, kind):
    """A picture in some form."""
    return cv2.imencode(suffix, np.arange(3000).reshape(50, 60).astype(kind))[1].tobytes()


def image(title, spoil, *said, name=IMAGE):
    """A case of the reader of images."""
    return Case(title, spoil, partial(read_grey, Path(name)), (name, *said))


def dicom(title, *said, cut_to=None, **elements):
    """A case of a DICOM file that lacks something."""

    def spoil():
        from pydicom import dcmread
        from pydicom.dataset import Dataset, FileMetaDataset
        from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid

        dataset = Dataset()
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset.SOPClassUID, dataset.SOPInstanceUID = SecondaryCaptureImageStorage, generate_uid()
        dataset.set_pixel_data(np.zeros((40, 50), np.uint8), "MONOCHROME2", 8)
        dataset.save_as("a.dcm", enforce_file_format=True)
        dataset = dcmread("a.dcm")
        for keyword, value in elements.items():
            if value is None:
                del dataset[keyword]
            else:
                setattr(dataset, keyword, value)
        dataset.save_as("a.dcm")
        if cut_to is not None:
            cut("a.dcm", cut_to)()

    return Case(title, spoil, partial(read_grey, Path("a.dcm")), ("a.dcm", *said))


CASES = [
    Case("no such folder", nothing, f"{SPLIT} data.root=nowhere", ("data.root: no folder 'nowhere'", "DATA=")),
    Case("a file for a folder", nothing, f"{TRAIN} data.root=folds.csv", ("data.root: no folder 'folds.csv'",)),
    Case("no name of a folder", nothing, f"{SPLIT} data.root=", ("data.root: no folder ''",)),
    Case("an empty folder", folder("data"), SPLIT, ("data: no images (*.png)", "train/DCM/<patient>/")),
    Case("an empty folder, audited", folder("data"), DOCTOR, ("no train images", "data/train/DCM"), 1, True),
    Case("no train images", gone(ROOT), SPLIT, ("data/train/DCM: no training images (*.png) here",)),
    Case("no test images", gone("data/test"), SUBMIT, ("data/test/DCM: no test images",)),
    Case("other suffixes", nothing, f"{SPLIT} data.images=[.bmp]", ("data: no images (*.bmp)",)),
    Case("one name of two images", copied(IMAGE, f"{ROOT}/case03/scan004.png"), SPLIT, ("the same file name twice",)),
    Case("a name in train and test", copied(IMAGE, "data/test/DCM/case06/scan004.png"), SPLIT, ("the same file name",)),
    Case("a line break in a name", copied(IMAGE, f"{ROOT}/case02/a\nb.png"), SPLIT, ("a\\nb.png", "rename it")),
    Case("a line break, audited", copied(IMAGE, f"{ROOT}/case02/a\nb.png"), DOCTOR, ("a\\nb.png", "rename"), 1, True),
    Case("a name in no known code", copied(IMAGE, f"{ROOT}/case02/\udcff.png"), SPLIT, ("is not UTF-8", "rename it")),
    Case("an image of no patient", copied(IMAGE, f"{ROOT}/a.png"), SPLIT, ("data.patient", "finds no patient in 'a.")),
    Case("a link to nowhere", link(IMAGE, "nowhere"), TRAIN, (f"{IMAGE}: cannot be read (No such file",)),
    Case("a link to itself", link(IMAGE, "scan004.png"), TRAIN, (f"{IMAGE}: cannot be read",)),
    Case("a pipe", pipe(IMAGE), DOCTOR, (f"{IMAGE}: cannot be read (a pipe",), 1, True),
    Case("a pipe to train on", pipe(IMAGE), TRAIN, (f"{IMAGE}: cannot be read (a pipe",)),
    Case("half an image", cut(IMAGE), TRAIN, (f"{IMAGE}: truncated PNG",)),
    Case("half a test image", cut("data/test/DCM/case06/scan012.png"), SUBMIT, ("scan012.png: truncated PNG",)),
    Case("text", put(IMAGE, "no image"), DOCTOR, (f"{IMAGE}: cannot be decoded as an image",), 1, True),
    Case("32,000 x 32,000", put(IMAGE, bombs.png(32_000, 32_000, rows=3)), TRAIN, (IMAGE, "data.limits.pixels")),
    Case("a limit", nothing, f"{DOCTOR} data.limits.pixels=1000", ("data.limits.pixels=1000 is the most",), 1, True),
    Case("no image of negatives", nothing, f"{SPLIT} data.negatives=[x.png]", ("data.negatives: 'x.png' fits no",)),
    Case("no other dataset", nothing, f"{TRAIN} data.external=[{{root:more}}]", ("no folder 'more'",)),
    Case("itself as another", nothing, f"{TRAIN} data.external=[{{root:data}}]", ("a root of its own",), 2),
    image("nothing at all", put(IMAGE), "cannot be decoded as an image"),
    image("no such image", gone(IMAGE), "cannot be read (No such file"),
    image("a folder", folder(IMAGE), "cannot be read (Is a directory"),
    image("bytes of nothing", put(IMAGE, bytes(5000)), "cannot be decoded as an image", "copy the file again"),
    image("the head of a PNG", cut(IMAGE, 0.02), "truncated PNG"),
    image("other bytes in the middle", both(flip(IMAGE), flip(IMAGE, 0.3)), "cannot be decoded as an image"),
    image("half a JPEG", both(put("a.jpg", encoded(".jpg", np.uint8)), cut("a.jpg")), "truncated JPEG", name="a.jpg"),
    image("half a TIFF", both(put("a.tif", encoded(".tif", np.uint8)), cut("a.tif")), "cannot be", name="a.tif"),
    image("half a BMP", both(put("a.bmp", encoded(".bmp", np.uint8)), cut("a.bmp")), "cannot be", name="a.bmp"),
    image("a TIFF of fractions", put(IMAGE, encoded(".tif", np.float32)), "has float32 pixels; export it with 8 or"),
    image("a web page", put(IMAGE, "<!DOCTYPE html><html>"), "cannot be decoded as an image"),
    image("an archive", put(IMAGE, b"PK\3\4" + bytes(99)), "cannot be decoded as an image"),
    image("a PNG of no rows", put(IMAGE, bombs.png(5, 0)), "cannot be decoded as an image"),
    Case("no size", put(IMAGE, b"\x89PNG\r\n\x1a\n" + bytes(9)), partial(read_shape, Path(IMAGE)), ("truncated PNG",)),
    image("only the mark of DICOM", put(IMAGE, bytes(128) + b"DICM"), "has no Pixel Data", "copy the file again"),
    image("DICOM of noise", put(IMAGE, bytes(128) + b"DICM\2\0\xff\xff\xff\xffUL" + b"\7" * 99), "cut short, or no im"),
    dicom("DICOM without rows", "cannot be read as DICOM", Rows=None),
    dicom("DICOM without pixels", "has no Pixel Data (7FE0,0010)", PixelData=None),
    dicom("half a DICOM", "a.dcm", cut_to=0.8),
    dicom("several frames", "Number of Frames (0028,0008) is 7", "a file of its own", NumberOfFrames=7),
    dicom("deep DICOM", "Bits Allocated (0028,0100) is 32", BitsAllocated=32),
    dicom("DICOM larger than its pixels", "is cut short", Rows=4000),
    dicom("DICOM larger than all", "data.limits.pixels", Rows=60_000, Columns=60_000),
    dicom("DICOM of five channels", "is cut short: Pixel Data (7FE0,0010) has 2000 of 10000", SamplesPerPixel=5),
    Case("no patient in DICOM", both(copied(IMAGE, "data/a.png"), moved("data/a.png", "data/b.png")),
         f"{SPLIT} data.patient_tag=PatientID", ("data.patient_tag=PatientID: is no DICOM file",)),
    Case("no such element", nothing, f"{SPLIT} data.patient_tag=PatientIdd", ("did you mean 'PatientID'",)),
]  # fmt: skip
