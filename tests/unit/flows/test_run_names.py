"""What the run page calls the task of a stage: its name, and what it works on."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from prefect import Task

from flows.lifecycle import rebuild_recipe
from tasks.core.hub.download.incoming import IncomingSource
from tasks.core.hub.download.pinned import PinnedSource
from tasks.core.recipe import (
    ActivationEdit,
    Base,
    Delta,
    Deploy,
    Edit,
    Finetune,
    Gate,
    Publish,
    RopeScalingEdit,
    Source,
)
from tasks.core.store import Store
from tasks.deploy import deploy
from tasks.download import download
from tasks.edit import edit
from tasks.evaluate import evaluate, gate
from tasks.finetune import finetune
from tasks.fuse import fuse
from tasks.merge import merge
from tasks.publish import publish
from tasks.runtime import stage_task
from tasks.stage_result import StageResult


def made(source: str | None) -> StageResult:
    return StageResult(
        stage="base",
        source=source,
        artifact="download-1",
        digest="0" * 64,
        path=Path("/store"),
        cached=False,
        wall_s=0.0,
        size_bytes=0,
        peak_memory_bytes=0,
    )


def incoming(source: Source) -> IncomingSource:
    return IncomingSource(PinnedSource(source, Store(Path("/home"))))


SCALED = Edit(
    activations=(ActivationEdit(layers=(0, "-4:")),), rope_scaling=RopeScalingEdit(factor=2)
)


@pytest.mark.parametrize(
    ("stage", "arguments", "name"),
    [
        (download, {"incoming": incoming(Base()), "role": "base"}, "download base llama-13b"),
        (
            download,
            {"incoming": incoming(Base(directory=Path("/m/x"))), "role": "base"},
            "download base x",
        ),
        (
            merge,
            {"base": incoming(Base()), "delta": incoming(Delta())},
            "merge llama-13b + vicuna-13b-delta-v1.1",
        ),
        (edit, {"settings": Edit()}, "edit gelu in layer -1"),
        (edit, {"settings": SCALED}, "edit gelu in layers 0, -4:, linear RoPE x 2"),
        (finetune, {"settings": Finetune()}, "finetune LoRA of rank 8 on conversation.json"),
        (evaluate, {"chain": [("base", 1), ("merged", 2)]}, "evaluate base, merged"),
        (fuse, {"model": made(None)}, "fuse the adapter into base"),
        (gate, {"limits": Gate()}, "gate merge ratio 1.5, perplexity ratio 1.25"),
        (gate, {"limits": Gate(max_perplexity_ratio=None, max_merge_ratio=None)}, "gate no limit"),
        (publish, {"target": Publish(repo="us/model")}, "publish to us/model"),
        (deploy, {"settings": Deploy()}, "deploy Kawan-Usaha on 127.0.0.1:8000"),
    ],
)
def test_a_task_is_named_for_what_it_does(
    stage: Task[..., Any], arguments: dict[str, object], name: str
) -> None:
    assert stage.task_run_name(parameters=arguments) == name  # type: ignore[operator, misc, call-arg]


def test_a_name_that_cannot_be_made_fails_no_work() -> None:
    @stage_task("work", lambda missing: missing)
    def work() -> None: ...

    assert work.task_run_name(parameters={}) == "work"  # type: ignore[operator, misc, call-arg]


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ({}, "demo"),
        ({"until": "merge"}, "demo"),
        ({"from_stage": "plan", "until": "deploy"}, "demo"),
        ({"from_stage": "merge", "until": "merge"}, "demo: merge"),
    ],
    ids=str,
)
def test_a_run_of_one_stage_is_named_for_it(
    monkeypatch: pytest.MonkeyPatch, given: dict[str, str], name: str
) -> None:
    parameters = {"recipe": "demo", **given}
    monkeypatch.setattr("flows.lifecycle.flow_run", SimpleNamespace(parameters=parameters))
    named = cast("Callable[[], str]", rebuild_recipe.flow_run_name)
    assert named() == name
