"""The page in a real Chromium."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_line import FakeLine

from dad_edge.line.sinks.flagged import FOLDER
from dad_edge.line.sinks.store import DATABASE, ResultStore
from dad_edge.web.server import RunningWeb, start_web

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Debian's chromium is not installed")
LONG_MS = 60_000


class Browser:
    """One page, with all that it complains about and all that it asks for."""

    def __init__(self, page: playwright.Page, url: str) -> None:
        self.page = page
        self.errors: list[str] = []
        self.foreign: list[str] = []
        page.set_default_timeout(LONG_MS)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("console", lambda said: said.type == "error" and self.errors.append(said.text))
        page.on(
            "request",
            lambda request: (
                request.url.startswith((url, "blob:")) or self.foreign.append(request.url)
            ),
        )
        page.goto(url)

    def settled(self) -> None:
        assert self.errors == []
        assert self.foreign == []

    def text(self, selector: str, text: str) -> None:
        """Wait until an element holds a text."""
        playwright.expect(self.page.locator(selector)).to_contain_text(text, timeout=LONG_MS)


@pytest.fixture(scope="module")
def chromium() -> Iterator[playwright.Browser]:
    with playwright.sync_playwright() as driver:
        options = ["--no-sandbox", "--disable-dev-shm-usage"]
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=options)
        yield browser
        browser.close()


@pytest.fixture
def browser(chromium: playwright.Browser, line: FakeLine, web: RunningWeb) -> Iterator[Browser]:
    for score in (0.2, 0.4, 0.9):
        line.inspect("left", score)
    line.inspect("right", 0.1)
    context = chromium.new_context(viewport={"width": 1280, "height": 1000})
    yield Browser(context.new_page(), web.url)
    context.close()


@pytest.fixture
def running(line: FakeLine) -> Iterator[threading.Event]:
    """A camera that goes on: a part of score 0.6 every now and then until it is set."""
    stop = threading.Event()

    def work() -> None:
        while not stop.wait(0.1):
            line.inspect("left", 0.6)

    thread = threading.Thread(target=work)
    thread.start()
    yield stop
    stop.set()
    thread.join()


CARD = '[data-camera="left"]'


def test_live_frames_change(browser: Browser, running: threading.Event) -> None:
    image = browser.page.locator(f"{CARD} img")
    playwright.expect(image).to_have_attribute("data-frame", pattern(), timeout=LONG_MS)
    first = image.get_attribute("data-frame")
    playwright.expect(image).not_to_have_attribute("data-frame", first, timeout=LONG_MS)
    playwright.expect(image).to_have_js_property("naturalWidth", 240, timeout=LONG_MS)
    browser.text(f"{CARD} .pill", "rejected: defect")
    browser.text("#status", "inspecting")
    browser.settled()


def pattern():  # type: ignore[no-untyped-def]
    import re

    return re.compile("-[0-9]+$")


def test_the_slider_changes_verdicts_and_can_be_undone(
    browser: Browser, line: FakeLine, running: threading.Event
) -> None:
    page = browser.page
    browser.text(f"{CARD} .pill", "rejected: defect")
    page.locator("#slider").fill("0.75")
    browser.text("#what-if", "would be above it instead of")
    page.locator("#apply").click()
    browser.text(f"{CARD} .pill", "good")
    assert line.cameras()[0].threshold == 0.75
    page.locator("#undo").click()
    browser.text(f"{CARD} .pill", "rejected: defect")
    assert line.cameras()[0].threshold == 0.5
    browser.settled()


def test_a_camera_that_is_gone_shows_and_comes_back(browser: Browser, line: FakeLine) -> None:
    line.set_online("left", False)
    browser.text(f"{CARD} .cover", "Offline. no frame for 5 s")
    browser.text("#status", "1 of 2 cameras offline")
    browser.text("#events", "left is offline.")
    line.set_online("left", True)
    browser.text("#status", "inspecting")
    playwright.expect(browser.page.locator(f"{CARD} .cover")).to_be_hidden(timeout=LONG_MS)
    browser.settled()


def test_pause_and_go_on_by_the_keyboard(browser: Browser, line: FakeLine) -> None:
    browser.text("#status", "inspecting")
    browser.page.keyboard.press("2")
    browser.text("#camera-name", "right")
    browser.page.keyboard.press("p")
    browser.text('[data-camera="right"] .cover', "Paused")
    assert line.cameras()[1].paused
    browser.page.keyboard.press("p")
    browser.text("#status", "inspecting")
    browser.settled()


def test_a_mark_survives_a_restart(
    browser: Browser, chromium: playwright.Browser, line: FakeLine, web: RunningWeb, tmp_path: Path
) -> None:
    page = browser.page
    browser.text("#gallery", "defect 0.900")
    page.keyboard.press("g")
    frame = page.locator("#part-frame")
    playwright.expect(frame).to_have_js_property("naturalWidth", 240, timeout=LONG_MS)
    page.keyboard.press("f")
    browser.text("#gallery", "was fine")
    browser.settled()
    web.close()
    folder = tmp_path / "results"
    again = start_web(line, ResultStore(folder / DATABASE), folder / FOLDER, "127.0.0.1:0")
    other = Browser(chromium.new_context().new_page(), again.url)
    other.text("#gallery", "was fine")
    other.settled()
    other.page.context.close()
    again.close()


def test_nothing_is_wider_than_a_tablet_and_themes_have_contrast(browser: Browser) -> None:
    page = browser.page
    browser.text("#status", "inspecting")
    page.set_viewport_size({"width": 768, "height": 1024})
    for theme in ("light", "dark"):
        if page.evaluate("document.documentElement.dataset.theme") != theme:
            page.locator("#theme").click()
        width = page.evaluate("document.documentElement.scrollWidth")
        assert width <= 768
        assert page.evaluate(CONTRAST) == []
    browser.settled()


CONTRAST = """() => {
  const numbers = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const light = (colour) => {
    const [r, g, b] = numbers(colour).slice(0, 3).map((v) => v / 255)
      .map((v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (element) => {
    for (let each = element; each; each = each.parentElement) {
      const colour = getComputedStyle(each).backgroundColor;
      if ((numbers(colour)[3] ?? 1) > 0) return colour;
    }
    return "rgb(255, 255, 255)";
  };
  const poor = [];
  for (const element of document.querySelectorAll("body *")) {
    const words = [...element.childNodes].some((n) => n.nodeType === 3 && n.data.trim());
    if (!words || element.disabled || !element.checkVisibility()) continue;
    if (element.closest("svg, script, option")) continue;
    const [one, other] = [light(getComputedStyle(element).color), light(behind(element))];
    const ratio = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
    if (ratio < 4.5) poor.push(`${element.tagName} ${element.textContent.trim()} ${ratio}`);
  }
  return poor;
}"""
"""Texts whose contrast is below that of WCAG AA."""
