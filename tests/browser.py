"""Pages in a real browser: the system's Chromium, headless, through Playwright."""

import contextlib
import shutil
import time
from dataclasses import dataclass, field

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking",
             "--disable-component-update", "--disable-sync"]  # fmt: skip


@dataclass
class Opened:
    """A page, and what went wrong on it: errors in the console, requests beyond the file and its own data."""

    page: object
    problems: list[str] = field(default_factory=list)

    def show(self, selector):
        """Scroll to the first element, which draws charts that come near."""
        place = self.page.locator(selector).first
        place.scroll_into_view_if_needed()
        return place

    def draw_all(self):
        """Scroll to every chart, and wait until it is drawn; returns how many there are."""
        charts = self.page.locator(".part.chart")
        for number in range(charts.count()):
            charts.nth(number).scroll_into_view_if_needed()
            charts.nth(number).locator(".main-svg").first.wait_for(timeout=90_000)
        return charts.count()

    def until(self, expression, seconds=90):
        """Wait until an expression is true; Playwright's own wait evaluates text, which the page's policy forbids."""
        end = time.monotonic() + seconds
        while not self.page.evaluate(expression):
            assert time.monotonic() < end, f"not so after {seconds} s: {expression}"
            self.page.wait_for_timeout(50)

    def unloaded(self):
        """Captions of pictures that did not load, after scrolling to each."""
        for image in self.page.locator("img[loading]").all():
            image.scroll_into_view_if_needed()
        waits = "Promise.all([...document.images].filter(i => i.src).map(i => i.decode().catch(() => 0)))"
        self.page.evaluate(f"async () => {{ await {waits} }}")
        bad = "[...document.images].filter(i => i.hasAttribute('loading') && !i.naturalWidth).map(i => i.alt)"
        return self.page.evaluate(bad)


@contextlib.contextmanager
def chromium():
    """The browser; tests are skipped where the machine has none."""
    program = next(filter(None, map(shutil.which, NAMES)), None)
    if program is None:
        pytest.skip(f"no browser here (none of {', '.join(NAMES)} is on the PATH)")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=ARGUMENTS)
        yield browser
        browser.close()


@contextlib.contextmanager
def opened(browser, address, width=1280, height=900, **options):
    """A page that is open; `options` are those of a Playwright context, such as `color_scheme`."""
    context = browser.new_context(viewport={"width": width, "height": height}, **options)
    here = Opened(context.new_page())
    here.page.on("console", lambda said: said.type in ("error", "warning") and here.problems.append(said.text))
    here.page.on("pageerror", lambda error: here.problems.append(str(error)))
    own = (str(address).split("#")[0], "data:", "blob:")
    here.page.on(
        "request", lambda asked: asked.url.startswith(own) or here.problems.append(f"asks for {asked.url[:80]}")
    )
    here.page.goto(str(address))
    yield here
    context.close()
