"""Pages, opened in a real browser."""

import math

import numpy as np
import pytest
from browser import opened

from bonepipe.report import charts
from bonepipe.report.page import (
    Chart,
    Gallery,
    Page,
    Section,
    Table,
    Text,
    picture,
    policy,
    prose,
    render,
    safe_json,
    shown,
    write,
)

HOSTILE = "<script>document.title = 'taken'</script><img src=x onerror=\"document.title='taken'\">"


def rows(name):
    return [[name, 0.9], ["Ulna", 0.5], ["Lunate", None], ["Hamate", 12]]


def page(name="Radius"):
    rng = np.random.default_rng(0)
    grey = rng.integers(0, 255, (80, 60)).astype(np.uint8)
    return Page(
        f"A page of {name}", "lead",
        [
            Section("First", "take this", [
                Chart("Bars", "says", charts.bars([name, "Ulna"], [0.25, 0.75], "Dice")),
                Table("Rows", "says", ["class", "Dice"], rows(name)),
            ]),
            *(Section(f"Far {number}", "", [Text("Lines", "", ["a line"] * 60)]) for number in range(3)),
            Section("Last", "", [
                Gallery("Pictures", "says", [picture(grey, f"{name}, enlarged"), picture(np.dstack([grey] * 3), "RGB")],
                        legend=[(name, "rgb(1, 2, 3)")]),
                Chart("Lines", "says", charts.lines({name: ([1, 2], [3, 4]), "b": ([1, 2], [4, 3])}, "x", "y")),
            ]),
        ],
        [("images", "3")],
    )  # fmt: skip


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    path = tmp_path_factory.mktemp("pages") / "a page.html"
    write(path, page())
    return path.as_uri()


def test_a_page_opens_without_an_error_and_draws_what_comes_into_view(browser, address):
    with opened(browser, address) as here:
        here.page.locator(".part.chart .main-svg").first.wait_for(timeout=90_000)
        assert here.page.locator(".part.chart[data-drawn]").count() == 1  # the other chart is far below
        assert here.draw_all() == 2
        assert here.unloaded() == []
        assert here.page.evaluate("document.querySelectorAll('#plotly').length") == 1
        assert here.problems == []


def test_a_chart_reacts_to_the_cursor(browser, address):
    with opened(browser, address) as here:
        here.draw_all()
        here.page.locator(".part.chart").first.scroll_into_view_if_needed()
        bar = here.page.locator(".part.chart").first.locator(".bars .point").first.bounding_box()
        here.page.mouse.move(bar["x"] + bar["width"] / 2, bar["y"] + bar["height"] / 2)
        label = here.page.locator(".hovertext").first
        label.wait_for()
        assert "Radius: 0.250" in label.text_content()
        before = here.page.locator(".part.chart").last.locator(".scatterlayer .trace").count()
        here.page.locator(".part.chart").last.locator(".legendtoggle").first.click()
        here.until(
            "document.querySelectorAll('.part.chart')[1].querySelector('.plot')._fullData.some(t => t.visible !== true)"
        )
        assert before == 2
        assert here.problems == []


def test_a_column_is_sorted_by_a_click_numbers_as_numbers_and_dashes_last(browser, address):
    with opened(browser, address) as here:
        first = "[...document.querySelectorAll('td:first-child')].map(cell => cell.textContent)"
        button = here.page.get_by_role("button", name="Dice")
        button.click()
        assert here.page.evaluate(first) == ["Ulna", "Radius", "Hamate", "Lunate"]
        button.click()
        assert here.page.evaluate(first)[1:] == ["Hamate", "Radius", "Ulna"]
        here.page.get_by_role("button", name="class").click()
        assert here.page.evaluate(first) == ["Hamate", "Lunate", "Radius", "Ulna"]


def test_a_click_enlarges_a_picture_and_another_closes_it(browser, address):
    with opened(browser, address) as here:
        here.show(".picture img").click()
        assert here.page.locator("dialog p").text_content() == "Radius, enlarged"
        assert here.page.evaluate("document.querySelector('dialog').open")
        here.page.locator("dialog").click()
        assert not here.page.evaluate("document.querySelector('dialog').open")


def test_charts_follow_light_and_dark(browser, address):
    ink = "getComputedStyle(document.querySelector('.part.chart .ytick text')).fill"
    with opened(browser, address, color_scheme="light") as here:
        here.draw_all()
        light = here.page.evaluate(ink)
        here.page.emulate_media(color_scheme="dark")
        here.until(f"{ink} !== '{light}'")
        assert here.problems == []


def test_nothing_is_wider_than_a_narrow_screen(browser, address):
    with opened(browser, address, width=360, height=700) as here:
        here.draw_all()
        assert here.page.evaluate("document.documentElement.scrollWidth") <= 360


def test_names_are_shown_as_they_are(browser, tmp_path):
    write(tmp_path / "page.html", page(HOSTILE))
    with opened(browser, (tmp_path / "page.html").as_uri()) as here:
        here.draw_all()
        assert here.page.title() == f"A page of {HOSTILE}"
        assert here.page.locator("td").first.text_content() == HOSTILE
        assert HOSTILE in here.page.locator(".ytick text").all_text_contents()
        assert here.problems == []


def test_a_script_that_is_not_the_pages_own_does_not_run(browser, tmp_path):
    text = render(page()).replace("</main>", "<script>document.title = 'taken'</script></main>")
    (tmp_path / "page.html").write_text(text)
    with opened(browser, (tmp_path / "page.html").as_uri()) as here:
        assert here.page.title() != "taken"
        assert any("Content Security Policy" in problem for problem in here.problems)


def test_a_page_without_charts_carries_no_library(tmp_path):
    bare = Page("bare", "", [Section("One", "", [Text("Text", "", ["line"])])])
    write(tmp_path / "bare.html", bare)
    assert (tmp_path / "bare.html").stat().st_size < 20_000
    assert render(page()) == render(page())


def test_cells_are_shown_for_people():
    assert [shown(value) for value in ("a", 0.12345, 1234567, None, math.nan)] == ["a", "0.123", "1,234,567", "–", "–"]
    assert shown(0.5, 1) == "0.5"


def test_what_stands_between_backticks_is_code_and_nothing_else_becomes_a_tag():
    assert prose("see `make <x>` & <b>") == "see <code>make &lt;x&gt;</code> &amp; &lt;b&gt;"
    assert prose("a lone ` stays") == "a lone ` stays"


def test_json_inside_a_script_cannot_end_it():
    assert "<" not in safe_json('{"a": "</script><!--"}')


def test_the_policy_allows_the_scripts_that_are_given_and_no_address():
    assert policy("a") != policy("b")
    assert "http" not in policy("a")
    assert policy("a").startswith("default-src 'none'")
