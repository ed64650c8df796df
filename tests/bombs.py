"""Small files that claim a machine's memory or its time, and a process of its own that reads them and is measured."""

import io
import json
import resource
import struct
import subprocess
import sys
import time
import zipfile
import zlib
from importlib import import_module
from pathlib import Path

from openpyxl import Workbook

from bonepipe.errors import BonepipeError

SPARE = 512 << 20  # bytes of address space that a reader may use beside what is there before it begins


def png(width, height, bits=1, colour=0, rows=None):
    """All black; with fewer rows than it says that it has, if need be."""
    channels = {0: 1, 2: 3, 6: 4}[colour]
    row = bytes(1 + (width * bits * channels + 7) // 8)
    pack = zlib.compressobj(1)
    packed = b"".join(pack.compress(row) for _ in range(height if rows is None else rows)) + pack.flush()
    head = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    parts = ((b"IHDR", head), (b"IDAT", packed), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in parts
    )


def jpeg(width, height, frame=0xC0, padding=b""):
    """A frame's header and no pixels."""
    sizes = struct.pack(">HBHHBBBB", 11, 8, height, width, 1, 1, 0x11, 0)
    return b"\xff\xd8" + padding + bytes((0xFF, frame)) + sizes + b"\xff\xd9"


def jpeg_2000(width, height):
    """The marker of the size and nothing behind it."""
    return b"\xff\x4f\xff\x51" + struct.pack(">HH8IHBBB", 41, 0, width, height, 0, 0, width, height, 0, 0, 1, 7, 1, 1)


def tiff(width, height, tile=None, big=False, order="<"):
    """A directory and hardly any pixels."""
    tags = {256: width, 257: height, 258: 8, 259: 1, 262: 1, 277: 1}
    tags |= {322: tile[0], 323: tile[1], 324: 8, 325: 64} if tile else {273: 8, 278: height, 279: 64}
    form = "HHQQ" if big else "HHII"
    name = b"II" if order == "<" else b"MM"
    head = struct.pack(f"{order}HHHQ", 43, 8, 0, 16) if big else struct.pack(f"{order}HI", 42, 8)
    count = struct.pack(f"{order}{'Q' if big else 'H'}", len(tags))
    entries = b"".join(struct.pack(order + form, tag, 4, 1, 0)[: -8 if big else -4] + struct.pack(
        f"{order}I", value).ljust(8 if big else 4, b"\0") for tag, value in sorted(tags.items()))  # fmt: skip
    return name + head + count + entries + bytes(8 if big else 4) + bytes(64)


def bmp(width, height):
    """A header and a few pixels."""
    return (
        b"BM" + struct.pack("<IHHIIiiHHIIiiII", 118, 0, 0, 54, 40, width, height, 1, 24, 0, 64, 0, 0, 0, 0) + bytes(64)
    )


def sparse(path, size):
    """A file of so many bytes that takes none of the disk."""
    with path.open("wb") as file:
        file.truncate(size)
    return path


def workbook(path, *changes):
    """A spreadsheet of two rows in which texts of its first sheet are replaced."""
    book, file = Workbook(), io.BytesIO()
    book.active.append(["ID", "age"])
    book.active.append([1, 25])
    book.save(file)
    with zipfile.ZipFile(file) as source, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as target:
        for part in source.namelist():
            text = source.read(part)
            for old, new in changes if part.endswith("sheet1.xml") else ():
                assert old in text
                text = text.replace(old, new, 1)
            target.writestr(part, text)
    return path


def measured(cases, folder, limit=120):
    """What each call (function as `module:name`, arguments) says, its CPU seconds, and MiB of memory that it took.

    All are called one after the other in one process, whose address space leaves SPARE bytes to each.
    """
    script = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import bombs; bombs.work()"
    result = subprocess.run(
        [sys.executable, "-c", script], input=json.dumps(cases), cwd=folder, capture_output=True, text=True,
        check=False, timeout=limit,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr[-3000:]
    return json.loads(result.stdout.splitlines()[-1])


def work():
    """The process of `measured`."""
    cases = json.load(sys.stdin)
    functions = {name: _found(name) for name, *_ in cases}
    print(json.dumps([_one(functions[name], words) for name, *words in cases]))


def _found(name):
    module, _, function = name.partition(":")
    return getattr(import_module(module), function)


def _one(function, words):
    from bonepipe import memory

    memory.forget_peak("cpu")
    before, start = memory.peak("cpu"), time.process_time()
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + SPARE, resource.RLIM_INFINITY))
    try:
        said = f"{function(*words)}"
    except BonepipeError as error:
        said = f"refused: {error}"
    except BaseException as error:
        said = f"{type(error).__name__}: {error}"
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    seconds = time.process_time() - start
    return {"said": said, "seconds": seconds, "mib": (memory.peak("cpu") - before) / 2**20}


def image(path, **limits):
    """Read an image."""
    from bonepipe.data.image import read_grey
    from bonepipe.data.limits import Limits

    return read_grey(Path(path), Limits(**limits)).shape


def shape(path):
    """Read an image's shape."""
    from bonepipe.data.image import read_shape

    return read_shape(Path(path))


def small(path):
    """Read an image of at most a million pixels."""
    return image(path, pixels=10**6)


def facts(path):
    """Read a header within the limits of an image of a million pixels."""
    from bonepipe.data.dicom_header import facts as read
    from bonepipe.data.limits import Limits

    return read(Path(path), Limits(pixels=10**6))


def annotation(path):
    """Read and fill an annotation of a 2048 image."""
    from bonepipe.data.annotation import read_annotation
    from bonepipe.labels.polygon import rasterise

    return rasterise(read_annotation(Path(path), ["Ulna"]), (2048, 2048), 1).sum()


def metadata(root):
    """Read a dataset's spreadsheet."""
    from bonepipe.data.metadata import read_metadata
    from bonepipe.data.spec import DataSpec

    return read_metadata(DataSpec(name="a", root=root, classes=("Ulna",), size=64))


def table(path):
    """Read a CSV of masks whole."""
    from bonepipe.data.submission import read

    return len(read(path).rows)


def rows(path):
    """Go through a CSV of masks."""
    from bonepipe.data.submission import stream

    return sum(1 for _ in stream(path))


def corrections(path):
    """Read corrections."""
    from bonepipe.data.corrections import read

    return len(read(Path(path), ["Ulna"], ["a.png"]))


def convert(path, *more):
    """Convert annotations."""
    return command("convert", path, "-o", f"{path}.out", "--to", "competition", *more)


def command(*words):
    """Run a command; what it says."""
    import contextlib

    from bonepipe.cli import main

    out, errors = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors):
        code = main(list(words))
    return f"exit {code}: {errors.getvalue()}{out.getvalue()}"
