"""One image's masks out of a table, against reading all of it."""

import pytest

from bonepipe.data import submission
from bonepipe.data.mask_index import MaskIndex
from bonepipe.errors import BonepipeError

ROWS = [("a.png", "x", "1 2 9 3"), ("b.png", "x", ""), ("a.png", "y", "4 1"), ("손.png", "x", "7 7")]


@pytest.fixture
def path(tmp_path):
    submission.write(tmp_path / "masks.csv", ROWS)
    return tmp_path / "masks.csv"


def test_rows_of_an_image_are_found_wherever_they_stand(path):
    index = MaskIndex(path)
    assert index.images() == ["a.png", "b.png", "손.png"]
    assert index.codes("a.png") == {"x": "1 2 9 3", "y": "4 1"}
    assert index.codes("b.png") == {"x": ""}
    assert index.codes("손.png") == {"x": "7 7"}
    assert index.codes("c.png") == {}


def test_columns_in_another_order_quotes_a_byte_order_mark_and_blank_lines_are_read(tmp_path):
    path = tmp_path / "masks.csv"
    path.write_bytes(
        '\ufeffUsage,rle,class,image_name\r\nPublic,1 2,"Lung, left",a.png\r\n\r\nPrivate,"3 4",y,a.png'.encode()
    )
    assert MaskIndex(path).codes("a.png") == {"Lung, left": "1 2", "y": "3 4"}


def test_a_table_that_is_written_anew_is_read_anew(path):
    index = MaskIndex(path)
    assert index.codes("a.png")["y"] == "4 1"
    submission.write(path, [("b.png", "x", "5 5"), ("a.png", "y", "6 6")])
    assert index.codes("a.png") == {"y": "6 6"}
    assert index.images() == ["b.png", "a.png"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"image,class,rle\n", "no column 'image_name'"),
        (b"image_name,class,rle\na.png,x\n", "line 2: 2 fields where the header has 3"),
        (b"image_name,class,rle\na.png,x,1 1\n\xff\xff,x,1 1\n", "not UTF-8"),
    ],
)
def test_what_is_no_table_of_masks_is_refused_by_name(tmp_path, content, message):
    path = tmp_path / "masks.csv"
    path.write_bytes(content)
    with pytest.raises(BonepipeError, match=message):
        MaskIndex(path).images()


def test_a_table_that_went_away_is_told(path):
    index = MaskIndex(path)
    index.images()
    path.unlink()
    with pytest.raises(BonepipeError, match=r"masks.csv: cannot be read"):
        index.codes("a.png")
