"""What publishing and serving read is there, also when an earlier run has freed it."""

from inspect import unwrap
from pathlib import Path
from types import SimpleNamespace

import pytest

from tasks import deploy as deploying
from tasks import evaluate as evaluating
from tasks import publish as publishing
from tasks.core.architecture import promise
from tasks.core.errors import ServingFailed
from tasks.core.files import locks
from tasks.core.files.locks import holders
from tasks.core.home import PROJECT
from tasks.core.keys import stage_key
from tasks.core.recipe import Deploy, Evaluate
from tasks.core.store import RunStore, Staging, Store
from tasks.core.store.runs import RunRecords
from tasks.runtime import running
from tasks.stage_result import StageResult

KEY = stage_key("edit", 1, {})
PROMPTS = PROJECT / "data" / "evaluation" / "prompts.json"


def write(staging: Staging) -> None:
    (staging.path / "weights").write_bytes(b"w" * (1 << 18))


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunStore:
    """A run whose model was made, and freed by a run of a recipe that went on from it."""
    monkeypatch.setenv("KAWAN_USAHA_HOME", str(tmp_path))
    Store(tmp_path).build(KEY, write)
    assert Store(tmp_path).free(str(KEY))
    return RunStore(tmp_path, RunRecords(tmp_path).start("demo", keep="released"))


def looked_at(path: Path) -> ServingFailed:
    """Return an error that says what was found: the work itself is not part of this test."""
    readers = [holder.what for holder in holders(path.parent / ".locks" / path.name)]
    return ServingFailed("looked", found=f"{[p.name for p in path.iterdir()]} {readers}")


def test_a_freed_model_is_made_again_before_it_is_served(
    run: RunStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def look(model: Path) -> None:
        raise looked_at(model)

    monkeypatch.setattr(promise, "expected_report", look)
    model = StageResult.of(run.build(KEY, write), "edit")
    assert model.freed
    with running(run), pytest.raises(ServingFailed) as caught:
        unwrap(deploying.deploy.fn)(model, Deploy(device="cpu"), "demo", "vicuna_v1.1", PROMPTS)
    assert "weights" in str(caught.value.found)
    assert "rebuild demo: read" in str(caught.value.found), "nobody else frees it meanwhile"


def test_a_freed_model_is_made_again_before_it_is_published(
    run: RunStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def look(*_: object, **__: object) -> None:
        raise looked_at(model.path)

    monkeypatch.setattr(publishing, "card_of_build", look)
    model = StageResult.of(run.build(KEY, write), "edit")
    nothing: object = SimpleNamespace(repo=None, signed_by=None)
    with running(run), pytest.raises(ServingFailed) as caught:
        unwrap(publishing.publish.fn)([model], nothing, nothing, nothing, nothing)
    assert "weights" in str(caught.value.found)


def test_a_release_before_that_is_part_of_this_build_is_not_waited_for(
    run: RunStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stage itself holds the lock that setting a damaged one aside would wait for."""

    def waits(line: str) -> None:
        raise AssertionError(line)

    def look(*_: object, **__: object) -> None:
        raise looked_at(model.path)

    monkeypatch.setattr(locks, "_SAY_AFTER_S", 0.0)
    monkeypatch.setattr(run, "_waits", waits)
    monkeypatch.setattr(evaluating, "measurement_identity", lambda *_: {})
    monkeypatch.setattr(evaluating, "evaluate_models", look)
    before = Store(run.root.parent).build(KEY, write).artifact
    (before.path / "weights").chmod(0o644)
    (before.path / "weights").write_bytes(b"x" * (1 << 18))
    model = StageResult.of(run.build(KEY, write), "edit")
    with running(run), pytest.raises(ServingFailed, match="looked"):
        unwrap(evaluating.evaluate.fn)(
            [("base", model), ("edited", model)], Evaluate(), "vicuna_v1.1", before
        )
