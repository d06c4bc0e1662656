"""The pictures of docs/page.md, taken of a running page: all tabs, as wide as a desk and a phone.

`kawan-usaha chat NAME --web` for a deployment that collects, then
`python -m tests.page_pictures http://127.0.0.1:7860`. With a reviewer's key in
KAWAN_USAHA_REVIEWER_KEY, the tab of the team alone, where an answer with a correction waits. Look
at each before it is kept.
"""

import io
import os
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, expect

from tasks.core.serving.page import words
from tests.prefect_ui import HOW_TO_INSTALL, browser_page, chromium

PICTURES = Path(__file__).parents[1] / "docs" / "pictures"
SIZES = {"desktop": (1280, 900), "phone": (390, 844)}
REVIEWER_KEY = "KAWAN_USAHA_REVIEWER_KEY"
COLOURS = 64  # the page has few, and a picture stays small


def keep(page: Page, name: str) -> None:
    """Write the whole page, once it has come to rest."""
    page.wait_for_timeout(1000)
    shown = Image.open(io.BytesIO(page.screenshot(full_page=True))).convert("RGB")
    shown.quantize(COLOURS).save(PICTURES / f"{name}.png", optimize=True)


def is_done(page: Page) -> None:
    """Return when no answer is being made."""
    expect(page.get_by_role("button", name=words.STOP)).to_have_count(0)


def chat(page: Page, size: str) -> None:
    """Take the tab before a question, and with its answer."""
    page.locator("#question textarea").wait_for()
    if size == "desktop":
        keep(page, f"chat-empty-{size}")
    page.get_by_text(words.SETTINGS).first.click()
    page.get_by_role("spinbutton", name=words.LENGTH).first.fill("64")
    page.get_by_text(words.SETTINGS).first.click()
    page.locator("#agrees input").check()
    expect(page.locator("#delete-mine")).to_be_visible()
    page.locator("#chat button.example").first.click()
    expect(page.get_by_text(words.JUDGE)).to_be_visible()
    is_done(page)
    keep(page, f"chat-{size}")


def article(page: Page, size: str) -> None:
    """Take the tab with all its steps done."""
    page.get_by_role("tab", name=words.ARTICLE_TAB).click()
    page.get_by_text(words.SETTINGS).last.click()
    page.get_by_role("spinbutton", name=words.LENGTH).last.fill("128")
    page.get_by_text(words.SETTINGS).last.click()
    page.get_by_role("button", name=words.EXAMPLE_CONVERSATION).click()
    for step, field in (
        (words.MAKE_SUMMARY, "#summary"),
        (words.MAKE_TITLES, "#title"),
        (words.MAKE_ARTICLE, "#article"),
    ):
        button = page.get_by_role("button", name=step)
        button.click()
        expect(button).to_be_disabled()
        expect(button).to_be_enabled()
        written = page.locator(f"{field} textarea, {field} input")
        if not written.input_value():  # a small model may give no titles
            written.fill("Menjaga Pembeli Nasi Bakar di Tanggal Tua")
        is_done(page)
    keep(page, f"article-{size}")


def review(page: Page, size: str, key: str) -> None:
    """Take the tab with the first answer that waits."""
    page.get_by_role("tab", name=words.REVIEW_TAB).click()
    page.locator("#review-key input").fill(key)
    page.get_by_role("button", name=words.REVIEW_OPEN, exact=True).click()
    expect(page.locator("#learned textarea")).to_be_visible()
    keep(page, f"review-{size}")


def main() -> None:
    """Take all of them."""
    executable, url = chromium(), sys.argv[1]
    if executable is None:
        sys.exit(HOW_TO_INSTALL)
    expect.set_options(timeout=600_000)
    with browser_page(executable) as page:
        for size, (width, height) in SIZES.items():
            page.set_viewport_size({"width": width, "height": height})
            page.goto(url)
            if key := os.environ.get(REVIEWER_KEY):
                review(page, size, key)
                continue
            chat(page, size)
            article(page, size)


if __name__ == "__main__":
    main()
