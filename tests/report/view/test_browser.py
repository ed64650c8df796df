"""The viewer as people use it: `bonepipe view`, driven in a real browser."""

import http.client
import os
import subprocess
import sys
import time
from urllib.parse import parse_qs, urlsplit

import pytest

from bonepipe.data import corrections
from bonepipe.pipeline.view import open_gallery

WIDE, NARROW = {"width": 1400, "height": 850}, {"width": 400, "height": 800}


@pytest.fixture(scope="module")
def server(shared):
    """Start the command on both runs, and give its address."""
    command = [sys.executable, "-m", "bonepipe", "view", shared / "runs" / "demo", shared / "runs" / "longer",
               shared / "votes.csv", "--port", "0", "--no-browser"]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ})
    try:
        address = process.stdout.readline().strip()
        assert address.startswith("http://127.0.0.1:"), process.communicate(timeout=10)[1]
        yield address
    finally:
        process.terminate()
        process.communicate(timeout=20)
    assert process.returncode == 0


@pytest.fixture
def open_page(browser, server):
    """Open an address of the viewer; whatever the console says is an error in the end."""
    complaints, contexts = [], []

    def open_page(query="", viewport=WIDE, **options):
        context = browser.new_context(viewport=viewport, **options)
        contexts.append(context)
        page = context.new_page()
        page.on(
            "console", lambda message: complaints.append(message.text) if message.type in ("error", "warning") else None
        )
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(server + query)
        wait(page, "document.querySelector('.whole')?.naturalWidth > 0 && document.querySelector('.mask')")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []


def wait(page, script, argument=None, seconds=20):
    """Wait until a script says yes; the page's security policy forbids Playwright's own way, which evaluates text."""
    ends = time.monotonic() + seconds
    while not page.evaluate(script, argument):
        assert time.monotonic() < ends, script
        page.wait_for_timeout(30)


def state_of(page):
    page.evaluate("new Promise(done => setTimeout(done, 250))")  # the address follows with a delay, by the page's clock
    return {key: values[0] for key, values in parse_qs(urlsplit(page.url).query).items()}


def names(page):
    return page.locator("#rows .item .names b").all_text_contents()


def test_the_worst_ten_of_a_class_are_listed_and_stepped_through(open_page, shared):
    page = open_page()
    assert page.locator("#panels button[aria-pressed=true]").all_text_contents() == ["Annotation", "demo", "longer"]
    page.select_option("select[name=class]", label="Radius")
    page.fill("input[name=top]", "10")
    wait(page, "document.querySelectorAll('#rows .item').length == 10")
    gallery = open_gallery([shared / "runs" / "demo"], []).gallery
    radius = gallery.spec.classes.index("Radius")
    worst = sorted(gallery.sources[0].dice.items(), key=lambda item: item[1][radius])[:10]
    assert [float(text) for text in page.locator("#rows .value").all_text_contents()] == [
        round(values[radius], 3) for _, values in worst
    ]
    page.locator("#rows .item").nth(0).click()
    assert state_of(page)["image"] == names(page)[0]
    page.keyboard.press("ArrowRight")
    state = state_of(page)
    assert state["image"] == names(page)[1]
    assert (state["top"], state["class"]) == ("10", str(radius))
    page.go_back()
    assert state_of(page)["image"] == names(page)[0]
    page.fill("input[name=high]", "0.001")
    wait(page, "document.querySelectorAll('#rows .item').length == 0")


def test_a_view_can_be_bookmarked(open_page):
    first = open_page()
    first.select_option("select[name=sort]", "worst")
    first.locator("#rows .item").nth(2).click()
    wait(first, "document.querySelectorAll('.mask').length > 40")
    first.keyboard.press("+")
    first.keyboard.press("d")
    state = state_of(first)
    assert {"image", "sort", "mode", "z", "x", "y"} <= state.keys()
    second = open_page("?" + urlsplit(first.url).query.replace("mode=difference", "mode=fill"))
    second.wait_for_timeout(500)
    assert {**state_of(second), "mode": "difference"} == state
    assert second.locator("#scale").text_content() == first.locator("#scale").text_content()
    assert second.locator("#rows [aria-selected=true] .names b").text_content() == state["image"]


def test_classes_are_switched_off_and_looked_at(open_page):
    page = open_page()
    radius = page.locator("#class-rows tr", has_text="Radius")
    drawn = ".panel[data-source='0'] .mask"
    page.wait_for_selector(f"{drawn}[data-label='27']", state="attached")
    count = page.locator(drawn).count()
    radius.locator(".class").click()
    page.wait_for_selector(f"{drawn}[data-label='27']", state="detached")
    assert page.locator(drawn).count() == count - 1
    assert state_of(page)["hide"] == "27"
    radius.locator(".class").click()
    radius.locator(".look").click()
    wait(page, "document.getElementById('scale').textContent !== ''")
    assert float(state_of(page)["z"]) > 1
    page.click("[data-classes=none]")
    wait(page, "document.querySelectorAll('.mask').length == 0")
    page.click("[data-classes=all]")
    wait(page, "document.querySelectorAll('.mask').length > 40")


def test_zoom_shows_native_pixels_and_moves_with_wheel_keys_and_mouse(open_page):
    page = open_page()
    view = page.locator(".view").first.bounding_box()
    middle = view["x"] + view["width"] / 2, view["y"] + view["height"] / 2
    page.keyboard.press("1")
    page.wait_for_timeout(100)
    page.keyboard.press("0")
    page.mouse.move(*middle)
    for _ in range(6):
        page.mouse.wheel(0, -400)
        page.wait_for_timeout(30)
    state = state_of(page)
    assert float(state["z"]) > 4
    wait(page, "[...document.querySelectorAll('.tile')].every(tile => tile.naturalWidth == 256)")
    assert page.locator(".tile").count() == 3  # one in each panel
    assert page.locator(".pixels.coarse").count() == 3
    page.mouse.down()
    page.mouse.move(middle[0] - 60, middle[1] - 30, steps=3)
    page.mouse.up()
    moved = state_of(page)
    assert (float(moved["x"]) > float(state["x"]), float(moved["y"]) > float(state["y"])) == (True, True)
    page.keyboard.press("Shift+ArrowRight")
    assert float(state_of(page)["x"]) > float(moved["x"])
    page.mouse.move(*middle)
    assert "of 256 × 256" in page.locator("#place").text_content()
    page.keyboard.press("0")
    assert "z" not in state_of(page)


def test_differences_truth_brightness_and_the_image_alone(open_page):
    page = open_page()
    page.wait_for_selector(".panel[data-source='0'] .true", state="attached")
    page.keyboard.press("t")
    page.wait_for_selector(".true", state="detached")
    page.keyboard.press("d")
    page.wait_for_selector(".panel[data-source='0'] .missed", state="attached")
    assert page.locator(".panel[data-source='0'] .excess").count() > 20
    page.keyboard.press("d")
    page.keyboard.down(" ")
    wait(page, "document.querySelectorAll('.mask').length == 0")
    page.keyboard.up(" ")
    wait(page, "document.querySelectorAll('.mask').length > 40")
    page.keyboard.press("i")
    page.keyboard.press("]")
    assert page.locator(".pixels.adjusted").count() == 3
    assert float(page.locator("#window feFuncR").get_attribute("slope")) == -1
    page.keyboard.press("r")
    assert page.locator(".pixels.adjusted").count() == 0
    page.keyboard.press("?")
    assert page.locator("#help").is_visible()
    assert "native pixels" in page.locator("#keys").text_content()
    page.keyboard.press("Escape")
    assert not page.locator("#help").is_visible()


def test_candidates_are_accepted_rejected_and_taken_back(open_page, shared):
    page = open_page()
    page.keyboard.press("l")
    page.locator(".candidate").nth(0).click()
    page.wait_for_selector("#decision:not([hidden])")
    wait(page, "new URLSearchParams(location.search).has('z')")  # the place is looked at
    assert "permuted 0.97" in page.locator("#decision-text").text_content()
    page.click("#decision button.suggested")
    page.wait_for_selector(".candidate:first-child .chip.decided")
    path = shared / "runs" / "demo" / "corrections.csv"
    gallery = open_gallery([shared / "runs" / "demo"], []).gallery
    read = lambda: corrections.read(path, gallery.spec.classes, list(gallery.numbers))  # noqa: E731
    assert read()[state_of(page)["image"]].moved == {0: 1, 1: 0}
    page.keyboard.press("ArrowRight")
    wait(page, "document.querySelector('#decision-text').textContent.includes('missing')")
    page.keyboard.press("a")
    page.wait_for_selector(".candidate:nth-child(2) .chip.decided")
    assert 27 in read()[state_of(page)["image"]].replaced
    page.keyboard.press("x")
    page.wait_for_selector(".candidate:nth-child(2) .chip.keep")
    assert not read()[state_of(page)["image"]].replaced
    page.keyboard.press("u")
    wait(page, "document.querySelectorAll('.chip.decided').length == 1")
    assert state_of(page)["image"] not in read()
    assert "1 decided" in page.locator("#review-summary").text_content()


def test_on_a_narrow_screen_one_panel_is_shown_and_lists_slide_in(open_page):
    page = open_page(viewport=NARROW, has_touch=True, is_mobile=True)
    assert page.locator(".panel").count() == 1
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.tap("#panels button:has-text('longer')")
    page.wait_for_selector(".panel[data-source='1']")
    assert page.locator(".panel").count() == 1
    page.tap("[data-drawer=images]")
    wait(page, "document.getElementById('images').getBoundingClientRect().left >= 0")
    page.locator("#rows .item").nth(3).tap()
    chosen = names(page)[3]
    wait(page, "name => new URLSearchParams(location.search).get('image') == name", chosen)


def test_the_server_itself_serves_nothing_outside_of_its_files(server):
    """Raw requests: no client tidies their paths."""
    place = urlsplit(server)
    for path in (
        "/static/../app.py",
        "/static/../../../../../../../../etc/passwd",
        "//etc/passwd",
        "/static/%2e%2e/app.py",
    ):
        connection = http.client.HTTPConnection(place.hostname, place.port, timeout=10)
        connection.request("GET", path)
        answer = connection.getresponse()
        assert answer.status == 404
        assert b"import" not in answer.read()
        connection.close()
    connection = http.client.HTTPConnection(place.hostname, place.port, timeout=10)
    connection.request("GET", "/api/index", headers={"Host": "evil.example"})
    assert connection.getresponse().status == 400
