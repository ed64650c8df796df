import pytest

from bonepipe import forms
from bonepipe.errors import BonepipeError
from bonepipe.pipeline.comparison import read_dice
from bonepipe.training.tracking.history import read_rows

NINES = "9" * 3000 + "x"


@pytest.mark.parametrize(
    ("key", "shown"), [("Ulna", "Ulna"), ("손", "손"), ("\r", r"'\\r'"), ("a\nb", r"'a\\nb'"), ("\u2028", r"'\\u2028'")]
)
def test_a_field_is_named_in_one_line_whatever_its_key(key, shown):
    with pytest.raises(ValueError, match=rf"^{shown}\.1: Input should be a valid number"):
        forms.fitting({key: [1.5, "x"]}, dict[str, list[float]])


def test_a_field_with_a_key_of_a_million_letters_is_cut():
    with pytest.raises(ValueError, match=r"^a{200}\.\.\.: Input should be") as caught:
        forms.fitting({"a" * 10**6: "x"}, dict[str, float])
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("read", "header", "row"),
    [(read_dice, "image_name,class,dice", f"a.png,Ulna,{NINES}"), (read_rows, "epoch,step", f"1,{NINES}")],
)
def test_a_number_of_a_million_digits_is_cut_in_the_message(tmp_path, read, header, row):
    path = tmp_path / "table.csv"
    path.write_text(f"{header}\n{row}\n")
    with pytest.raises(BonepipeError, match=r"table\.csv: cannot be read .*could not convert") as caught:
        read(path)
    assert len(str(caught.value)) < 600
