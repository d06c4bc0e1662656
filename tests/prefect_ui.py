"""Prefect's UI as a person uses it: a page of a real Chromium, asked for what stands on it.

Covers the form that starts a run, and the page of a run. It waits for what should appear, and for
no length of time.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from playwright.sync_api import Locator, Page, ViewportSize, sync_playwright

WITHIN_MS = 600_000
SIZE: ViewportSize = {"width": 1200, "height": 1350}
HOW_TO_INSTALL = (
    "No Chromium: `apt-get install chromium` (or `playwright install chromium`), "
    "or name another one in KAWAN_USAHA_CHROMIUM"
)


def chromium() -> str | None:
    """Return the path of the browser, None where there is none."""
    named = os.environ.get("KAWAN_USAHA_CHROMIUM")
    return named or next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)


@contextmanager
def browser_page(executable: str) -> Iterator[Page]:
    """Give an empty page of a browser that ends with the block."""
    with sync_playwright() as playwright:
        # Chromium's sandbox needs a user that is not root.
        arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = playwright.chromium.launch(executable_path=executable, args=arguments)
        page = browser.new_page(viewport=SIZE)
        page.set_default_timeout(WITHIN_MS)
        yield page
        browser.close()


@dataclass(frozen=True)
class Field:
    """One field of the form."""

    root: Locator

    @property
    def title(self) -> str:
        return self.root.locator(".schema-form-property__label").inner_text()

    @property
    def description(self) -> str:
        return self.root.locator(".schema-form-property__description").inner_text()

    @property
    def selected(self) -> str:
        return self.root.locator(".p-select-button__value").inner_text()

    @property
    def text(self) -> Locator:
        return self.root.locator("textarea")

    def choices(self) -> list[str]:
        """Open the list of choices, read it, and close it."""
        control = self.root.locator(".p-select-button__control")
        control.press("ArrowDown")
        options = self.root.page.locator(".p-select-option")
        options.first.wait_for()
        found = options.all_inner_texts()
        control.press("Escape")
        return found

    def choose(self, choice: str) -> None:
        self.root.locator(".p-select-button__control").press("ArrowDown")
        self.root.page.locator(".p-select-option").get_by_text(choice, exact=True).click()


class Form:
    """The form of a deployment."""

    def __init__(self, page: Page, url: str, deployment_id: str) -> None:
        self.page = page
        page.goto(f"{url}/deployments/deployment/{deployment_id}/run")
        page.locator(".schema-form-property").first.wait_for()

    def fields(self) -> list[Field]:
        return [Field(each) for each in self.page.locator(".schema-form-property").all()]

    def field(self, title: str) -> Field:
        return next(each for each in self.fields() if each.title.startswith(title))

    def press(self, name: str) -> None:
        self.page.get_by_role("button", name=name).click()

    def submit(self) -> None:
        self.press("Submit")


def run_page(page: Page, url: str, run_id: str) -> None:
    """Open the page of a run, and wait until its state is shown."""
    page.goto(f"{url}/runs/flow-run/{run_id}")
    page.locator(".state-badge").first.wait_for()


def open_tab(page: Page, name: str) -> None:
    page.locator(".p-tabs").get_by_text(name, exact=True).click()
