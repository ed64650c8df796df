"""A run to look at, and what the viewer makes of it."""

import shutil

import pytest
from viewed import add_candidates, make_run

from bonepipe.data.submission import stream, write
from bonepipe.pipeline.view import open_gallery
from bonepipe.report.view.app import Viewer


@pytest.fixture(scope="session")
def viewed_folder(tmp_path_factory, phantom_root):
    """A folder with runs/demo, runs/longer (whose masks are worse) and votes.csv, a table of some of the masks."""
    folder = tmp_path_factory.mktemp("viewed")
    run = make_run(phantom_root, folder)
    make_run(phantom_root, folder, "longer", shift=4)
    rows = list(stream(run / "fold-0" / "oof.csv"))
    write(folder / "votes.csv", [(row.image, row.label, row.rle) for row in rows if row.image == rows[0].image])
    return folder


@pytest.fixture
def viewed(viewed_folder, tmp_path):
    """A copy whose run has candidates for wrong annotations."""
    return copied(viewed_folder, tmp_path / "viewed")


@pytest.fixture(scope="module")
def shared(viewed_folder, tmp_path_factory):
    """The same for all tests of a file."""
    return copied(viewed_folder, tmp_path_factory.mktemp("shared") / "viewed")


def copied(source, folder):
    shutil.copytree(source, folder)
    add_candidates(folder / "runs" / "demo", open_gallery([folder / "runs" / "demo"], []).gallery.images)
    return folder


@pytest.fixture
def viewer(viewed):
    opened = open_gallery([viewed / "runs" / "demo", viewed / "votes.csv"], [])
    return Viewer(opened.gallery, opened.review, opened.hint)
