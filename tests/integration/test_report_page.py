"""The page of a run that trained: its loss curve comes from what the training left."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from flows.rebuild.run_page import publish_summary
from flows.rebuild.run_summary import (
    RunSummary,
    as_plain,
    as_text,
    outcome_line,
    report_page,
)
from tasks.core.conversation.checking.leaks import Leak, Leaks
from tasks.core.evaluation.figures import EvaluationOutcome, Figures, HeldOut
from tasks.core.evaluation.gate import apply_gate
from tasks.core.recipe import Base, Gate, Publish, Recipe
from tasks.core.store.manifest import freed_place
from tasks.core.training.result import TRAINING
from tasks.stage_result import StageResult

pytestmark = pytest.mark.usefixtures("prefect", "home")


@pytest.fixture
def report(tmp_path: Path) -> RunSummary:
    steps = [{"step": i, "loss": 3.0 / i, "learning_rate": 1e-4} for i in range(1, 6)]
    validation = [{"step": 3, "loss": 2.5}, {"step": 4, "loss": None}, {"step": 5, "loss": 2.0}]
    (tmp_path / TRAINING).write_text(json.dumps({"steps": steps, "validation": validation}))
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
    outcome = EvaluationOutcome(figures=(figures,), comparisons=(), answers=())
    recipe = Recipe(name="trained", base=Base(directory=tmp_path))
    return RunSummary(recipe, (trained,), outcome, apply_gate(outcome, Gate()))


def test_page_draws_the_loss_of_every_logged_step_and_of_every_validation(
    report: RunSummary,
) -> None:
    publish_summary(report)
    page = report_page(report.recipe).read_text()
    for line, points, last in (("training", 5, "0.600"), ("validation", 2, "2.000")):
        curve = page.split(f'<polyline class="curve {line}" points="')[1].split('"')[0]
        assert len(curve.split()) == points
        assert f">{last} {line}</text>" in page
    assert "1 min 15 s" in page


@pytest.mark.parametrize("kept", [True, False])
def test_page_of_a_training_on_another_machine_has_its_curve_if_its_record_is_here(
    report: RunSummary, kept: bool
) -> None:
    artifact = report.stages[0].path
    place = freed_place(artifact)
    place.mkdir(parents=True)
    (artifact / TRAINING).rename(place / (TRAINING if kept else "another.json"))
    publish_summary(report)
    assert ('class="curve training"' in report_page(report.recipe).read_text()) is kept


def test_terminal_shows_an_astronomic_perplexity_as_a_power(report: RunSummary) -> None:
    text = as_text(report)
    assert "base 4.05 × 10¹⁶" in text
    assert "Measured; no limit applies: perplexity ratio" in text
    assert "does not apply, it would compare base with itself" in text


def test_program_gets_the_figures_of_the_page(report: RunSummary) -> None:
    plain: Any = as_plain(report)
    assert plain["outcome"]["figures"][0]["perplexity_per_token"] == pytest.approx(
        4.05e16, rel=0.01
    )
    assert plain["verdict"]["passed"] is True


def test_what_leaks_and_what_is_set_aside_is_told_to_people_and_programs(
    report: RunSummary,
) -> None:
    assert report.outcome is not None and report.verdict is not None
    leak = Leak(1, "a", 7, "t", exact=True)
    held_out = HeldOut(
        records=4,
        measured=3,
        set_aside={"duplicate": 1},
        first_set_aside=("record 4 (d): says the same as record 1 (a)",),
        leaks=Leaks(10, 3, 1, 0, (leak,)),
    )
    outcome = report.outcome.model_copy(update={"held_out": held_out})
    leaking = replace(report, outcome=outcome)
    assert "1 of 3 held-out conversations stand in the training data" in as_text(leaking)
    assert "1 of 4 held-out records are set aside" in as_text(leaking)
    plain: Any = as_plain(leaking)
    assert plain["outcome"]["held_out"]["leaks"]["first"][0]["training_id"] == "t"


def test_the_rungs_that_memory_did_not_suffice_for_are_told(report: RunSummary) -> None:
    step = {"rung": "as asked", "reason": "the device ran out of memory", "kept_step": 4}
    facts = {"rung": "micro batch 1", "steps_down": [step]}
    trained = report.stages[0].model_copy(update={"facts": facts})
    text = as_text(replace(report, stages=(trained,)))
    assert "finetune, as asked: the device ran out of memory; kept step 4" in text
    assert "finetune, micro batch 1: had enough memory" in text
    assert "finetune, " not in as_text(report)


def test_the_last_word_of_a_run_is_its_verdict_and_where_the_model_is(
    report: RunSummary,
) -> None:
    trained = report.stages[0]
    sent = {"url": "https://hub/us/model", "tag": "build-1"}
    published = trained.model_copy(update={"stage": "publish", "facts": sent, "cached": True})
    served = trained.model_copy(update={"stage": "deploy", "facts": {"url": "http://here:8000"}})
    words = outcome_line(replace(report, stages=(trained, published, served)))
    assert words.startswith("Done: finetune, deploy. Measured; no limit applies.")
    assert words.endswith("Published as build-1: https://hub/us/model. Served: http://here:8000.")
    assert outcome_line(replace(report, stages=(published,))).startswith(
        "Nothing new: every stage was cached."
    )


def test_embedded_hub_is_named_by_its_command_as_its_address_ends_with_the_run(
    report: RunSummary,
) -> None:
    recipe = report.recipe.model_copy(
        update={"hub": "embedded", "publish": Publish(repo="us/model", license="mit")}
    )
    sent = {"url": "http://127.0.0.1:46859/us/model/tree/build-1", "tag": "build-1"}
    published = report.stages[0].model_copy(update={"stage": "publish", "facts": sent})
    words = outcome_line(replace(report, recipe=recipe, stages=(published,)))
    assert "Published as build-1: us/model on the Hub that `kawan-usaha hub` starts." in words
