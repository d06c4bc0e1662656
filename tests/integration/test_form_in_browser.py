"""The form and the run page in a real Chromium, with a real server and worker behind them."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from flows.stage_names import STAGES
from tasks.core.process.ports import free_port
from tasks.core.recipe import Recipe
from tasks.core.recipe.file import recipe_names
from tests.prefect_command import prefect_home
from tests.receivers import awaited

playwright = pytest.importorskip(
    "playwright.sync_api", reason="playwright is missing: pip install -e '.[dev]'"
)
from tests.prefect_ui import (  # noqa: E402
    HOW_TO_INSTALL,
    Form,
    browser_page,
    chromium,
    open_tab,
    run_page,
)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(chromium() is None, reason=HOW_TO_INSTALL),
]


@dataclass(frozen=True)
class Ui:
    """A browser in front of a server with all deployments."""

    page: Any
    url: str

    def ask(self, path: str, **query: object) -> Any:
        answer = httpx.post(f"{self.url}/api/{path}", json=query, timeout=60)
        return answer.raise_for_status().json()

    def form(self, deployment: str) -> Form:
        found = self.ask("deployments/filter", deployments={"name": {"any_": [deployment]}})
        return Form(self.page, self.url, found[0]["id"])

    def runs(self) -> list[str]:
        return [run["id"] for run in self.ask("flow_runs/filter", sort="START_TIME_DESC")]

    def submitted(self, form: Form, ends_as: str) -> str:
        """Submit a form, and wait on the page of its run until it has ended so."""
        before = self.runs()
        form.submit()
        run = awaited(lambda: [run for run in self.runs() if run not in before])
        run_page(self.page, self.url, run)
        self.page.locator(".state-badge").get_by_text(ends_as).first.wait_for()
        return run


@pytest.fixture(scope="module")
def ui(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ui]:
    root = tmp_path_factory.mktemp("prefect")
    with prefect_home(root) as prefect, browser_page(str(chromium())) as page:
        url = prefect.up("--port", str(free_port())).removesuffix("/api")
        yield Ui(page, url)


@pytest.fixture
def tiny(recipe: Recipe, tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(recipe.model_dump(mode="json")))
    return path


def test_form_names_and_explains_each_field_and_offers_every_choice(ui: Ui) -> None:
    form = ui.form("demo")
    fields = form.fields()
    assert [each.title.removesuffix(" (Optional)") for each in fields] == [
        "Recipe",
        "First stage",
        "Last stage",
        "Overrides",
        "Override of the gate",
    ]
    assert [each.title for each in fields if not each.description] == []
    assert "on the machine that runs the flow" in form.field("Recipe").description
    recipe, first, last = fields[:3]
    assert (recipe.selected, first.selected, last.selected) == ("demo", "plan", "deploy")
    assert recipe.choices() == recipe_names()
    assert first.choices() == last.choices() == list(STAGES)


def test_form_refuses_a_wrong_value_and_starts_nothing(ui: Ui) -> None:
    before = ui.runs()
    form = ui.form("demo")
    form.press("Add item")
    form.field("Overrides").text.fill("finetune.epochs 2")
    form.submit()
    form.page.get_by_text("'finetune.epochs 2' does not match").wait_for()
    assert ui.runs() == before
    form.field("Overrides").text.fill("")
    form.submit()
    form.page.get_by_text("None is not of type 'string'").wait_for()
    assert ui.runs() == before


def test_run_that_was_filled_in_by_hand_completes_and_its_repetition_is_cached(
    ui: Ui, tiny: Path
) -> None:
    for state in ("Completed", "Cached"):
        form = ui.form("demo")
        form.press("Path of a YAML file")
        form.field("Recipe").text.fill(str(tiny))
        form.press("Add item")
        form.field("Overrides").text.fill("evaluate.max_new_tokens=5")
        form.field("Override of the gate").text.fill("changed my mind")
        form.field("Override of the gate").text.fill("")
        run = ui.submitted(form, "Completed")
        open_tab(ui.page, "Task Runs")
        merge = ui.page.locator(".state-list-item", has_text="merge base + delta")
        assert state in merge.inner_text()
        open_tab(ui.page, "Artifacts")
        for page in ("plan", "evaluation", "rebuild"):
            ui.page.get_by_text(page, exact=True).first.wait_for()
        shown = ui.ask("artifacts/filter", artifacts={"flow_run_id": {"any_": [run]}})
        report = next(each["data"] for each in shown if each["key"] == "rebuild")
        assert "`evaluate.max_new_tokens=5`" in report


def test_failure_is_explained_on_its_page_without_a_traceback(ui: Ui, tiny: Path) -> None:
    form = ui.form("stage-merge")
    form.press("Path of a YAML file")
    form.field("Recipe").text.fill(str(tiny))
    form.press("Add item")
    form.field("Overrides").text.fill("edit.activation=relu")
    run = ui.submitted(form, "Failed")
    ui.page.get_by_text(
        "edit.activation: no such field. Did you mean activations?"
    ).first.wait_for()
    lines = [
        each["message"] for each in ui.ask("logs/filter", logs={"flow_run_id": {"any_": [run]}})
    ]
    assert not any("Traceback" in line for line in lines)
