import json
from pathlib import Path

import pytest
from prefect import flow

from tasks.core.conversation.examples import ExampleFile
from tasks.core.conversation.prepared import read_prepared
from tasks.core.recipe import Finetune
from tasks.prepare import prepare
from tasks.runtime import StageResult
from tests.models import tiny_llama

pytestmark = pytest.mark.usefixtures("prefect", "home")
TEMPLATE = "vicuna_v1.1"
STARTER = Path(__file__).parents[2] / "data" / "conversation.json"


def as_stage(path: Path) -> StageResult:
    return StageResult(
        stage="base",
        artifact=path.name,
        digest=path.name,
        path=path,
        cached=False,
        wall_s=0.0,
        size_bytes=0,
        peak_memory_bytes=0,
    )


def test_examples_are_made_once_for_all_that_agree_on_them(tmp_path: Path) -> None:
    data = tmp_path / "conversation.json"
    data.write_text(json.dumps(json.loads(STARTER.read_text())[:20]))
    one = as_stage(tiny_llama(tmp_path / "one", layers=1, seed=1))
    other = as_stage(tiny_llama(tmp_path / "other", layers=2, seed=2))  # the same tokenizer
    settings = Finetune(data=data, max_length_tokens=4096)
    faster = settings.model_copy(update={"learning_rate": 1e-3, "batching": "pack"})
    shorter = settings.model_copy(update={"max_length_tokens": 1500, "max_dropped_share": 0.9})

    @flow
    def thrice() -> tuple[StageResult, StageResult, StageResult]:
        first = prepare.submit(one, settings, TEMPLATE).result()
        again = prepare.submit(other, faster, TEMPLATE).result()
        return first, again, prepare.submit(one, shorter, TEMPLATE).result()

    first, again, third = thrice()
    assert (first.cached, again.cached, third.cached) == (False, True, False)
    assert first.digest == again.digest != third.digest
    prepared = read_prepared(first.path, faster, TEMPLATE)
    assert len(ExampleFile(prepared.examples)) == first.facts["examples"] == 20
