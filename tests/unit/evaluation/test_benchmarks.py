"""lm-eval by name. The last test needs the package, which the project does not depend on."""

import importlib.util
import json
import os
import sys
from pathlib import Path

import pytest

from tasks.core.errors import DataError, EvaluationFailed, MissingTool
from tasks.core.evaluation.benchmarks import run_benchmarks
from tasks.core.evaluation.evaluate import measurement_identity
from tasks.core.evaluation.figures import Subject
from tasks.core.recipe import Evaluate
from tests.models import tiny_llama

has_lm_eval = importlib.util.find_spec("lm_eval") is not None


@pytest.fixture
def settings(tmp_path: Path) -> Evaluate:
    """A multiple-choice task of our own with its data beside it: no network is needed."""
    own = tmp_path / "tasks"
    own.mkdir()
    questions = [
        {"question": "Apa itu NIB?", "choices": [" izin", " kue"], "answer": 0},
        {"question": "Apa itu laba?", "choices": [" rugi", " untung"], "answer": 1},
    ]
    (own / "warung.jsonl").write_text("\n".join(map(json.dumps, questions)))
    task = {
        "task": "warung",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(own / "warung.jsonl")}},
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": "{{question}}",
        "doc_to_target": "{{answer}}",
        "doc_to_choice": "{{choices}}",
        "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
    }
    (own / "warung.yaml").write_text(json.dumps(task))
    for name in ("held_out.json", "prompts.json"):
        (tmp_path / name).write_text("[]")
    return Evaluate(
        conversations=tmp_path / "held_out.json",
        prompts=tmp_path / "prompts.json",
        device="cpu",
        benchmarks=("warung",),
        benchmark_tasks=own,
    )


@pytest.mark.skipif(has_lm_eval, reason="lm-eval is installed")
def test_benchmarks_without_lm_eval_are_refused_before_anything_runs(settings: Evaluate) -> None:
    with pytest.raises(MissingTool, match="lm-eval is not installed") as caught:
        measurement_identity(settings, "vicuna_v1.1")
    assert "pip install lm-eval" in (caught.value.next_step or "")


def test_without_benchmarks_their_settings_are_no_part_of_the_identity(settings: Evaluate) -> None:
    none = settings.model_copy(update={"benchmarks": ()})
    other = none.model_copy(update={"benchmark_limit": 3})
    assert measurement_identity(none, "vicuna_v1.1") == measurement_identity(other, "vicuna_v1.1")


def test_lm_eval_that_fails_is_told_with_its_last_lines(
    settings: Evaluate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "python"
    program.write_text("#!/bin/sh\necho no task named warung\nexit 3\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    with pytest.raises(EvaluationFailed, match="did not finish") as caught:
        run_benchmarks(
            Subject(role="edited", path=tmp_path), settings, scratch=tmp_path, env=dict(os.environ)
        )
    assert "no task named warung" in (caught.value.found or "")


@pytest.mark.skipif(not has_lm_eval, reason="needs lm-eval")
def test_files_of_own_tasks_are_part_of_the_identity(settings: Evaluate) -> None:
    before = measurement_identity(settings, "vicuna_v1.1")
    assert settings.benchmark_tasks is not None
    (settings.benchmark_tasks / "warung.jsonl").write_text("{}")
    assert measurement_identity(settings, "vicuna_v1.1") != before
    missing = settings.model_copy(update={"benchmark_tasks": settings.benchmark_tasks / "none"})
    with pytest.raises(DataError, match="cannot be read"):
        measurement_identity(missing, "vicuna_v1.1")


@pytest.mark.skipif(not has_lm_eval, reason="needs lm-eval")
def test_own_task_is_measured_without_a_network(settings: Evaluate, tmp_path: Path) -> None:
    model = Subject(role="edited", path=tiny_llama(tmp_path / "model, edited", dtype="float32"))
    offline = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    (found,) = run_benchmarks(model, settings, scratch=tmp_path, env=offline)
    assert (found.role, found.task, found.metric) == ("edited", "warung", "acc")
    assert found.value in (0.0, 0.5, 1.0)
