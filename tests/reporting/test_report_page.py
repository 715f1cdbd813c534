"""The report's page in a browser: views, filters, keys, addresses, two runs side by side, phone and dark."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from report_runs import always_a, mute, right, write, write_training

from spatialvlm.tasks.cvbench import data as cvbench

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here (Debian: chromium)")

LIMIT = 16
DESKTOP, PHONE = {"width": 1200, "height": 800}, {"width": 360, "height": 740}


@pytest.fixture(scope="module")
def file(tmp_path_factory) -> Path:
    """The page of four runs, made by the command."""
    folder = tmp_path_factory.mktemp("report")
    examples = list(cvbench.load("embedded", limit=LIMIT))
    write(folder / "runs" / "a-base", examples, always_a)
    write(folder / "runs" / "b-better", examples, mute)
    write(folder / "runs" / "c-sampled", examples, lambda e: ["A", "B", e.answer, ""], num_samples=4)
    write(folder / "runs" / "b-better-ood", list(cvbench.flip_polarity(examples)), right, ood=True)
    write_training(folder / "runs" / "training", [0.1, 0.3, 0.5, 0.6])
    command = [sys.executable, "-m", "spatialvlm.reporting", "runs", "-o", "page.html"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "4 tests, 1 trainings" in done.stdout
    return folder / "page.html"


@pytest.fixture(scope="module")
def browser():
    with api.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def tab(browser, file):
    """(hash, viewport, colours) -> the page, opened from the disk without network; it may report no error."""
    errors, contexts = [], []

    def open_page(hash: str = "", viewport: dict = DESKTOP, colours: str = "light"):
        context = browser.new_context(viewport=viewport, color_scheme=colours, offline=True)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        page.goto(f"{file.as_uri()}{hash}")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert errors == []


def shown(page) -> str:
    return page.locator("#item h2").inner_text()


def count(page) -> int:
    return int(page.locator("#count").inner_text().split()[0])


def test_three_views_are_reached_by_their_links(tab):
    page = tab()
    assert page.locator("#tables h2").count() == 3 and page.locator("#tables").is_visible()
    page.get_by_role("link", name="Plots").click()
    assert page.locator("#plots svg[role=img]").count() >= 6 and not page.locator("#tables").is_visible()
    page.get_by_role("link", name="Items").click()
    assert count(page) == LIMIT and page.locator("#item img").first.is_visible()
    assert page.get_by_role("link", name="Items").get_attribute("aria-current") == "page"


def test_filters_leave_the_items_they_name(tab):
    page = tab("#items?a=a-base&b=b-better")
    page.get_by_label("Task").select_option("Count")
    assert count(page) == LIMIT // 4
    assert all("Count" in text for text in page.locator(".row b").all_inner_texts())
    page.get_by_label("Task").select_option("")
    page.get_by_label("Show").select_option("won")
    marks = [row.locator(".mark").all_inner_texts() for row in page.locator(".row").all()]
    assert marks and all(pair == ["✗", "✓"] for pair in marks)
    won = count(page)
    page.get_by_label("Show").select_option("lost")
    lost = count(page)
    page.get_by_label("Show").select_option("changed")
    assert count(page) == won + lost
    page.get_by_label("Run A").select_option("b-better")
    page.get_by_label("Show").select_option("a_unparsed")
    assert count(page) == LIMIT // 4 and "unparsed" in page.locator(".answer").first.inner_text()
    assert "<tag>&</script>" in page.locator(".answer pre").first.inner_text()  # shown as text, not as a tag
    page.get_by_label("Find").fill("no such words")
    assert count(page) == 0 and "No item" in page.locator("#item").inner_text()


def test_keys_go_through_the_items(tab):
    page = tab("#items")
    order = [text.split(" · ")[1] for text in page.locator(".row b").all_inner_texts()]
    for key, place in (("j", 1), ("ArrowDown", 2), ("k", 1), ("ArrowUp", 0), ("k", 0), ("Home", 0)):
        page.keyboard.press(key)
        assert shown(page).endswith(order[place])
    page.keyboard.press("End")
    assert page.locator(".row[aria-selected=true]").get_attribute("aria-posinset") == str(LIMIT)
    page.keyboard.press("/")
    page.keyboard.type("jk")  # letters typed into the field are not keys of the list
    assert page.get_by_label("Find").input_value() == "jk"


def test_an_address_opens_the_same_item_filters_and_runs(tab):
    first = tab("#items?a=a-base&b=b-better&task=Depth")
    first.keyboard.press("j")
    address, title = first.evaluate("location.hash"), shown(first)
    second = tab(address)
    assert shown(second) == title and count(second) == LIMIT // 4
    assert [card.split("\n")[0] for card in second.locator(".answer").all_inner_texts()] == [
        "A: a-base",
        "B: b-better",
    ]


def test_images_are_decoded_only_when_shown(tab):
    page = tab("#items")
    assert page.evaluate("document.images.length") == 1
    page.wait_for_function("document.images[0].complete && document.images[0].naturalWidth > 0")
    assert page.evaluate("document.images[0].naturalWidth") <= 320
    assert page.locator("#item img").get_attribute("alt").startswith("Image of cvbench-test-0-0")


@pytest.mark.parametrize("colours", ["light", "dark"])
@pytest.mark.parametrize("view", ["#tables", "#plots", "#items?b=b-better"])
def test_a_phone_shows_every_view_without_scrolling_sideways(tab, view, colours):
    page = tab(view, PHONE, colours)
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    paper, ink = (
        page.evaluate(f"getComputedStyle(document.body).{name}") for name in ("backgroundColor", "color")
    )
    assert (luminance(paper) > luminance(ink)) == (colours == "light") and contrast(paper, ink) > 7


def test_colours_are_told_from_the_paper(tab):
    names = [
        *(f"--s{number}" for number in range(8)),
        "--soft",
        "--correct",
        "--incorrect",
        "--unparsed",
        "--accent",
    ]
    for colours in ("light", "dark"):
        page = tab("", DESKTOP, colours)
        paper, *found = (
            page.evaluate(f"getComputedStyle(document.documentElement).getPropertyValue('{name}')")
            for name in ("--paper", *names)
        )
        assert all(contrast(paper, each) >= 4.5 for each in found)


def contrast(one: str, other: str) -> float:
    """WCAG 2's contrast of two colours, `rgb(...)` or `#rrggbb`."""
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def luminance(colour: str) -> float:
    if colour.startswith("#"):
        parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    else:
        parts = [int(part) / 255 for part in colour[4:-1].split(",")]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
