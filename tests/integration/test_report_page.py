"""The page of a run that trained: its loss curve comes from what the training left."""

import json
from pathlib import Path
from typing import Any

import pytest

from flows.report import RebuildReport, as_plain, as_text, page_of, publish_report
from tasks.core.evaluation.figures import Figures, Outcome
from tasks.core.evaluation.gate import judge
from tasks.core.recipe import Base, Gate, Recipe
from tasks.core.training.finetune import TRAINING
from tasks.runtime import StageResult

pytestmark = pytest.mark.usefixtures("prefect", "home")


@pytest.fixture
def report(tmp_path: Path) -> RebuildReport:
    steps = [{"step": i, "loss": 3.0 / i, "learning_rate": 1e-4} for i in range(1, 6)]
    (tmp_path / TRAINING).write_text(json.dumps({"steps": steps}))
    trained = StageResult(
        stage="finetune",
        artifact="finetune-1",
        digest="d" * 64,
        path=tmp_path,
        cached=False,
        wall_s=75.0,
        size_bytes=1,
        peak_memory_bytes=3_000_000_000,
    )
    figures = Figures(
        role="base",
        conversations=1,
        tokens=1,
        utf8_bytes=4,
        nll_nats=38.24,
        dtype="float32",
        tokens_per_s=1.0,
        peak_memory_bytes=1,
    )
    outcome = Outcome(figures=(figures,), comparisons=(), answers=())
    recipe = Recipe(name="trained", base=Base(directory=tmp_path))
    return RebuildReport(recipe, (trained,), outcome, judge(outcome, Gate()))


def test_page_draws_the_loss_of_every_logged_step(report: RebuildReport) -> None:
    publish_report(report)
    page = page_of(report.recipe).read_text()
    curve = page.split('<polyline class="curve" points="')[1].split('"')[0]
    assert len(curve.split()) == 5
    assert ">0.600</text>" in page
    assert "1 min 15 s" in page


def test_terminal_shows_an_astronomic_perplexity_as_a_power(report: RebuildReport) -> None:
    text = as_text(report)
    assert "base 4.05 × 10¹⁶" in text
    assert "Measured; no limit applies: perplexity ratio" in text
    assert "does not apply, it would hold base against itself" in text


def test_program_gets_the_figures_of_the_page(report: RebuildReport) -> None:
    plain: Any = as_plain(report)
    assert plain["outcome"]["figures"][0]["perplexity_per_token"] == pytest.approx(
        4.05e16, rel=0.01
    )
    assert plain["verdict"]["passed"] is True
