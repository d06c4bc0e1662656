"""The pictures of docs/prefect.md, taken of a running server: the forms, the pages, the report.

`python -m tests.pictures http://127.0.0.1:4200` after a rebuild of `demo` that completed and one of
`kawan-usaha-13b` that failed for want of a GPU, both from the UI. Look at each before it is kept.
"""

import io
import sys
from pathlib import Path
from typing import Any

import httpx
from PIL import Image
from playwright.sync_api import Page

from tests.prefect_ui import HOW_TO_INSTALL, Form, browser_page, chromium, open_tab, run_page

PICTURES = Path(__file__).parents[1] / "docs" / "pictures"
COLOURS = 128  # the UI has few, and a picture stays well below 200 kB


def ask(url: str, path: str, **query: object) -> Any:
    """Return what the server's API finds."""
    return httpx.post(f"{url}/api/{path}", json=query, timeout=60).raise_for_status().json()


def keep(page: Page, name: str, *, height: int) -> None:
    """Write what the page shows, once it has come to rest."""
    page.set_viewport_size({"width": 1200, "height": height})
    page.wait_for_load_state("networkidle")
    page.wait_for_timeout(3000)  # the timeline glides to its place
    shown = Image.open(io.BytesIO(page.screenshot())).convert("RGB").quantize(COLOURS)
    shown.save(PICTURES / f"prefect-{name}.png", optimize=True)


def forms(page: Page, url: str) -> None:
    """Take the form of the demo as it is opened, and as it refuses an override."""
    (demo,) = ask(url, "deployments/filter", deployments={"name": {"any_": ["demo"]}})
    form = Form(page, url, demo["id"])
    keep(page, "form", height=1290)
    form.press("Add item")
    form.field("Overrides").text.fill("finetune.epochs 2")
    form.submit()
    page.get_by_text("does not match").wait_for()
    form.field("Overrides").root.scroll_into_view_if_needed()
    keep(page, "form-refused", height=1240)


def last_run(url: str, name: str, state: str) -> str:
    """Return the last run of this name that ended so."""
    wanted = {"name": {"any_": [name]}, "state": {"type": {"any_": [state]}}}
    return str(ask(url, "flow_runs/filter", flow_runs=wanted, sort="START_TIME_DESC")[0]["id"])


def pages(page: Page, url: str) -> None:
    """Take the pages of a run that completed, with its report, and of one that failed."""
    demo = last_run(url, "demo", "COMPLETED")
    run_page(page, url, demo)
    open_tab(page, "Task Runs")
    keep(page, "run", height=1560)
    run_page(page, url, last_run(url, "kawan-usaha-13b", "FAILED"))
    keep(page, "run-failed", height=1240)
    found = ask(url, "artifacts/filter", artifacts={"flow_run_id": {"any_": [demo]}})
    report = next(each["id"] for each in found if each["key"] == "rebuild")
    page.goto(f"{url}/artifacts/artifact/{report}")
    logs = page.locator("code", has_text="/logs/demo")  # the default in place of this machine's
    logs.evaluate("code => { code.textContent = '~/.kawan-usaha/logs/demo' }")
    keep(page, "report", height=1560)


def main() -> None:
    """Take all of them."""
    executable, url = chromium(), sys.argv[1].rstrip("/")
    if executable is None:
        sys.exit(HOW_TO_INSTALL)
    with browser_page(executable) as page:
        forms(page, url)
        pages(page, url)


if __name__ == "__main__":
    main()
