"""Prefect's part in the ladder: a rung that had not enough memory is a retry of the task."""

import re
import time
from pathlib import Path
from typing import Any

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.objects import State

from tasks.core.conversation.examples.writer import ExampleCounts
from tasks.core.planning.rungs import rungs_of
from tasks.core.process import Cause, ChildResult
from tasks.core.recipe import Finetune
from tasks.core.training import ladder
from tasks.core.training.attempt import TrainedAdapter
from tasks.core.training.failures import StopReason, TrainingStopped
from tasks.core.training.job import LoggedStep
from tasks.core.training.request import TrainingRequest
from tasks.core.training.verify import AdapterFacts
from tasks.finetune import finetune as stage
from tasks.notices import NoticeEvent
from tasks.runtime import wait_if_it_may_pass
from tasks.stage_result import StageResult
from tests.models import tiny_llama
from tests.receivers import awaited

pytestmark = pytest.mark.usefixtures("prefect", "home")
KILLED = ChildResult(1, Cause.OUT_OF_MEMORY, tail=(), peak_memory_bytes=0, wall_s=0.0)


def attempt(seen: list[Finetune], sufficient: int) -> Any:
    """Return what stands in for a training: it has enough memory at a micro batch size."""

    def run_attempt(request: TrainingRequest, settings: Finetune) -> TrainedAdapter:
        out = request.out
        seen.append(settings)
        (out / "work").mkdir(exist_ok=True)
        if settings.micro_batch_size > sufficient:
            raise TrainingStopped(StopReason.HOST_OUT_OF_MEMORY, KILLED, "Killed", None)
        (out / "adapter").write_text("trained")
        return TrainedAdapter(
            adapter=out / "adapter",
            steps=(LoggedStep(step=1, loss=2.0, learning_rate=1e-3),),
            validation=(),
            counts=ExampleCounts(*[1] * len(ExampleCounts.__dataclass_fields__)),
            trained_tokens=10,
            facts=AdapterFacts(1, 1),
            resumed_from_step=None,
            restarted_for=(),
            peak_memory_bytes=0,
            wall_s=1.0,
        )

    return run_attempt


def messages_of_waits(state: State[Any]) -> list[str]:
    """What the run page says while the only task of a flow waits, once the server has noted it."""
    ours = FlowRunFilter(id=FlowRunFilterId(any_=[state.state_details.flow_run_id]))
    give_up = time.monotonic() + 120.0
    with get_client(sync_client=True) as client:
        while time.monotonic() < give_up:
            for each in client.read_task_runs(flow_run_filter=ours):
                found = client.request("GET", "/task_run_states/", params={"task_run_id": each.id})
                states = found.json()
                if any(one["type"] == "COMPLETED" for one in states):
                    return [s["message"] or "" for s in states if s["name"] == "AwaitingRetry"]
            time.sleep(0.2)
    raise TimeoutError("The server never noted the end of the task.")


def events(state: State[Any]) -> list[dict[str, Any]]:
    """Return what the server knows that a flow run has told of less memory, the oldest first."""
    run = f"prefect.flow-run.{state.state_details.flow_run_id}"
    wanted = {
        "event": {"name": [NoticeEvent.LESS_MEMORY]},
        "related": {"id": [run]},
        "order": "ASC",
    }
    with get_client(sync_client=True) as client:
        found = client.request("POST", "/events/filter", json={"filter": wanted}).json()
    return list(found["events"])


def test_each_rung_is_a_retry_with_its_reason_until_one_has_enough_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[Finetune] = []
    monkeypatch.setattr(ladder, "run_attempt", attempt(seen, sufficient=1))
    settings = Finetune(device="cpu", micro_batch_size=4)
    model = StageResult(
        stage="edit",
        artifact="edit-1",
        digest="0" * 64,
        path=tiny_llama(tmp_path / "model", layers=1),
        cached=False,
        wall_s=0.0,
        size_bytes=0,
        peak_memory_bytes=0,
    )
    examples = model.model_copy(update={"stage": "prepare", "path": tmp_path})
    at_once = stage.with_options(retry_condition_fn=wait_if_it_may_pass((0.0,)))

    @flow
    def run() -> StageResult:
        made: StageResult = at_once.submit(model, examples, settings, "vicuna_v1.1").result()
        return made

    state = run(return_state=True)
    made = state.result()
    waits = messages_of_waits(state)
    assert re.search(r"ran out of memory \(as asked\)\. Next: rung 2 of 3, micro batch 2", waits[0])
    assert "starts over: no checkpoint was due yet" in waits[0]
    assert "Next: rung 3 of 3" in waits[1]
    assert [each.micro_batch_size for each in seen] == [4, 2, 1]
    assert {each.micro_batch_size * each.gradient_accumulation_steps for each in seen} == {64}
    assert made.facts["rung"] == "micro batch 1"
    assert [step["rung"] for step in made.facts["steps_down"]] == ["as asked", "micro batch 2"]
    assert "The machine ran out of memory (as asked). Next: rung 2 of 3" in caplog.text
    assert "The machine ran out of memory (micro batch 2). Next: rung 3 of 3" in caplog.text
    told = awaited(lambda: [found] if len(found := events(state)) == 2 else [])
    assert [each["payload"]["text"].partition(".")[0] for each in told] == [
        "The machine ran out of memory (as asked)",
        "The machine ran out of memory (micro batch 2)",
    ]


def test_there_are_as_many_retries_as_the_longest_ladder_has_rungs() -> None:
    longest = Finetune(
        micro_batch_size=2**14, processes=2, zero_stage=0, gradient_checkpointing=False
    )
    assert stage.retries >= len(rungs_of(longest))
