import contextlib
import json
import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from tasks.core.conversation.tokenizer.load import load_tokenizer
from tasks.core.errors import DataError, EvaluationFailed, NotAModel, RecipeError
from tasks.core.evaluation.evaluate import evaluate_models, measurement_identity, read_evaluation
from tasks.core.evaluation.figures import EvaluationJob, EvaluationOutcome, Subject
from tasks.core.evaluation.measuring import measure_models
from tasks.core.process.tree import environment_of
from tasks.core.recipe import Evaluate, Gate
from tests.memory_group import memory_group
from tests.models import tiny_llama
from tests.prefork import preforked_quick_start

pytestmark = pytest.mark.usefixtures("preforked_children")

ENTRY = "tasks.core.evaluation.entry"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_llama(tmp_path_factory.mktemp("model"), dtype="float32")


def settings_in(place: Path) -> Evaluate:
    turns = [{"from": "human", "value": "Halo?"}, {"from": "gpt", "value": "<b>Halo juga.</b>"}]
    (place / "data.json").write_text(json.dumps([{"id": "a", "conversations": turns}]))
    (place / "prompts.json").write_text(json.dumps([{"id": "p", "prompt": "<i>NIB</i>?"}]))
    return Evaluate(
        conversations=place / "data.json",
        prompts=place / "prompts.json",
        max_new_tokens=4,
        device="cpu",
    )


@pytest.fixture
def settings(tmp_path: Path) -> Evaluate:
    return settings_in(tmp_path)


def run(model: Path, settings: Evaluate, out: Path, **options: object) -> EvaluationOutcome:
    out.mkdir(exist_ok=True)
    subjects = [Subject(role="merged", path=model)]
    return evaluate_models(subjects, settings, template="vicuna_v1.1", out=out, **options)  # type: ignore[arg-type]


def test_data_that_cannot_be_used_is_told_by_the_child_s_own_error(
    model: Path, settings: Evaluate, tmp_path: Path
) -> None:
    settings.conversations.write_text('[{"id": "a", "conversations": []}]')
    with pytest.raises(DataError, match="no turn of the assistant"):
        run(model, settings, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_length_beyond_the_model_s_context_is_refused_before_anything_is_measured(
    settings: Evaluate, tmp_path: Path
) -> None:
    short = tiny_llama(tmp_path / "short", layers=1, max_positions=256)
    said: list[str] = []
    with pytest.raises(RecipeError, match=r"evaluate\.max_length_tokens[\s\S]*at most 256"):
        run(short, settings, tmp_path / "out", on_line=said.append)
    assert said == []


def test_a_shorter_model_that_is_only_compared_with_is_measured_with_a_warning(
    model: Path, settings: Evaluate, tmp_path: Path
) -> None:
    short = tiny_llama(tmp_path / "short", layers=1, max_positions=256)
    subjects = [Subject(role="base", path=short), Subject(role="edited", path=model)]
    said: list[str] = []
    out = tmp_path / "out"
    out.mkdir()
    evaluate_models(subjects, settings, template="vicuna_v1.1", out=out, on_line=said.append)
    assert "beyond what it was trained for" in said[0]


def test_a_special_token_beyond_the_embedding_is_told_before_a_model_is_loaded(
    model: Path, settings: Evaluate, tmp_path: Path
) -> None:
    small = tiny_llama(tmp_path / "small", layers=1, vocab=259)
    tokenizer = load_tokenizer(small)
    tokenizer.add_special_tokens({"pad_token": "[NEW]"})
    tokenizer.save_pretrained(small)
    subjects = [Subject(role="base", path=model), Subject(role="edited", path=small)]
    said: list[str] = []
    out = tmp_path / "out"
    out.mkdir()
    with pytest.raises(NotAModel, match=r"\[NEW\]' has the id 259"):
        evaluate_models(subjects, settings, template="vicuna_v1.1", out=out, on_line=said.append)
    assert not any("loading" in line for line in said)


@pytest.mark.parametrize(("token", "file"), [("<b>", "data.json"), ("<i>", "prompts.json")])
def test_a_text_with_a_token_beyond_the_embedding_is_refused_before_anything_is_measured(
    settings: Evaluate, tmp_path: Path, token: str, file: str
) -> None:
    small = tiny_llama(tmp_path / "small", layers=1, vocab=259)
    tokenizer = load_tokenizer(small)
    tokenizer.add_tokens([token])
    subject = Subject(role="base", path=small)
    tokenizer.save_pretrained(small)
    job = EvaluationJob(
        subjects=(subject,), template="vicuna_v1.1", settings=settings, scratch=tmp_path
    )
    with pytest.raises(DataError, match=rf"{file}[\s\S]*the id 259"):
        measure_models(job)


def test_killed_measuring_process_is_told_as_such_and_leaves_nothing(
    model: Path, settings: Evaluate, tmp_path: Path
) -> None:
    preforked_quick_start(ENTRY)  # what it forks from starts now, and is not killed
    before = set(psutil.Process().children(recursive=True))

    def kill(_: str) -> None:
        for child in set(psutil.Process().children(recursive=True)) - before:
            os.kill(child.pid, signal.SIGKILL)

    with pytest.raises(EvaluationFailed, match="killed by a signal"):
        run(model, settings, tmp_path / "out", on_line=kill)
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.usefixtures("real_children")
def test_kill_by_the_kernel_for_want_of_memory_is_told_with_what_helps(
    model: Path, settings: Evaluate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The measuring process starts in a group with less memory than torch alone takes."""
    with memory_group(64 << 20) as group:
        inside = tmp_path / "python"
        inside.write_text(
            f'#!/bin/sh\necho $$ > {group}/cgroup.procs\nsleep 1.2\nexec {sys.executable} "$@"\n'
        )
        inside.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(inside))
        with pytest.raises(EvaluationFailed, match="out of memory") as caught:
            run(model, settings, tmp_path / "out")
    assert "max_length_tokens" in (caught.value.next_step or "")
    assert list((tmp_path / "out").iterdir()) == []


@dataclass(frozen=True)
class Watched:
    """What a measurement said, and the environments of its process while it said so."""

    lines: list[str]
    environments: list[dict[str, str]]


@pytest.fixture(scope="module")
def watched(
    preforked_children: None, model: Path, tmp_path_factory: pytest.TempPathFactory
) -> Watched:
    """Measure for somebody who has a token.

    The process that is looked at is the one that is started, whose environment its fork takes over.
    """
    watched, root = Watched([], []), tmp_path_factory.mktemp("watched")

    def look(line: str) -> None:
        watched.lines.append(line)
        for child in psutil.Process().children():
            with contextlib.suppress(psutil.Error):  # ended between the listing and the look
                if ENTRY in child.cmdline() and (environment := environment_of(child)):
                    watched.environments.append(environment)

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_TOKEN", "hf_secret")
        run(model, settings_in(root), root / "out", on_line=look)
    return watched


def test_log_holds_a_line_a_step_and_no_progress_bar(watched: Watched) -> None:
    said = [line.split(" ")[1] for line in watched.lines]
    if_slow = ("conversation", "prompt")
    kept = [word for word in said if word not in if_slow]
    assert kept == ["loading", "perplexity", "answered"], watched.lines


def test_token_and_network_stay_outside_the_measuring_process(watched: Watched) -> None:
    seen = watched.environments
    assert seen
    assert all("HF_TOKEN" not in env and env["HF_HUB_OFFLINE"] == "1" for env in seen)


def test_directory_that_is_no_model_is_told_before_anything_is_started(
    settings: Evaluate, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(NotAModel, match=r"no config\.json"):
        run(tmp_path / "empty", settings, tmp_path / "out")


def test_outcome_is_written_and_read_again(model: Path, settings: Evaluate, tmp_path: Path) -> None:
    outcome = run(model, settings, tmp_path / "out")
    assert read_evaluation(tmp_path / "out") == outcome
    assert outcome.figures[0].tokens > 0


def test_other_limits_keep_the_measurement_and_other_data_does_not(settings: Evaluate) -> None:
    before = measurement_identity(settings, "vicuna_v1.1")
    strict = settings.model_copy(update={"gate": Gate(max_perplexity=2.0)})
    assert measurement_identity(strict, "vicuna_v1.1") == before
    settings.prompts.write_text("[]")
    assert measurement_identity(settings, "vicuna_v1.1") != before


def test_missing_evaluation_data_is_told_with_the_field(settings: Evaluate) -> None:
    settings.prompts.unlink()
    with pytest.raises(DataError, match=r"evaluate\.prompts"):
        measurement_identity(settings, "vicuna_v1.1")
