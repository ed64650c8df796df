"""The page of a dataset: a hand and a chest, opened in a browser."""

import re
import shutil

import pytest
from browser import opened

from bonepipe.cli import main

SECTIONS = ["Samples", "Classes", "Resolution ceiling", "Patients", "Left, right and wrists", "Train against test",
            "Duplicates", "What doctor found"]  # fmt: skip


@pytest.fixture(scope="module")
def hand(phantom_root, tmp_path_factory):
    folder = tmp_path_factory.mktemp("hand")
    words = [f"data.root={phantom_root}", f"folds.file={folder}/folds.csv", f"runs={folder}", "data.size=64"]
    assert main(["eda", *words]) == 0
    return folder / "eda-phantom.html"


@pytest.fixture(scope="module")
def chest(chest_root, tmp_path_factory):
    """With one image twice, of two patients, and one that cannot be read."""
    folder = tmp_path_factory.mktemp("chest")
    root = shutil.copytree(chest_root, folder / "data")
    first, *_, last = sorted(root.glob("train/DCM/*/*.png"))
    shutil.copy(first, last)
    next(root.glob("test/DCM/*/*.png")).write_bytes(b"no image")
    path = folder / "page.html"
    words = ["data=chest", "~experiment", f"data.root={root}", f"folds.file={folder}/folds.csv", "data.size=64"]
    assert main(["eda", *words, "-o", str(path)]) == 0
    return path


def test_the_page_of_hands_opens_and_every_figure_says_what_to_take_from_it(hand, browser):
    assert hand.stat().st_size < 8e6
    with opened(browser, hand.as_uri()) as here:
        assert here.page.locator("h2").all_text_contents() == SECTIONS
        assert here.draw_all() > 10
        assert here.unloaded() == []
        silent = "[...document.querySelectorAll('.part.chart, .part.gallery')].filter(p => !p.querySelector('.says'))"
        assert here.page.evaluate(f"{silent}.length") == 0
        assert here.problems == []


def test_the_page_of_chests_names_what_is_wrong(chest, browser):
    with opened(browser, chest.as_uri()) as here:
        here.draw_all()
        text = here.page.locator("main").inner_text()
        assert "belong to two patients" in text
        assert "cannot be decoded as an image" in text
        assert "Nothing is known of the patients" in text
        assert "Rotated wrists" not in text
        assert here.unloaded() == []
        assert here.problems == []


def test_a_narrow_screen_shows_all_of_it(hand, browser):
    with opened(browser, hand.as_uri(), width=390, height=800) as here:
        here.draw_all()
        assert here.page.evaluate("document.documentElement.scrollWidth") <= 390


def test_what_training_sees_is_told_at_its_size_and_in_its_part_of_the_image(phantom_root, tmp_path):
    words = [f"data.root={phantom_root}", f"folds.file={tmp_path}/folds.csv", f"runs={tmp_path}"]
    told = {}
    for name, more in {
        "whole": ["data.size=[96, 64]"], "wrist": ["experiment=wrist", "data.size=64"],
    }.items():  # fmt: skip
        path = tmp_path / f"{name}.html"
        assert main(["eda", *words, *more, "-o", str(path)]) == 0
        told[name] = path.read_text(encoding="utf-8")
    assert "At data.size=[96, 64] the best possible Dice is" in told["whole"]
    assert "At data.size=64 and in the crops of data.region the best possible Dice is" in told["wrist"]
    lost = [float(re.search(r"best possible Dice is (0\.\d{4})", told[name])[1]) for name in ("whole", "wrist")]
    assert lost[1] > lost[0]
