import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from prefect.client.schemas.objects import State

from flows.lifecycle import rebuild, rebuild_recipe
from flows.rebuild.run_summary import RunSummary
from tasks.core.errors import (
    DeltaMismatch,
    KawanUsahaError,
    NotAModel,
    PortTaken,
    RecipeError,
    StageMissing,
    UsageError,
)
from tasks.core.pruning import prunable, prune_store
from tasks.core.recipe import ActivationEdit, Base, Deploy, Edit, Evaluate, Gate, Recipe
from tasks.core.recipe.deploy import Gateway
from tasks.core.store import Store
from tasks.core.store.runs import RunRecords
from tests.models import tiny_llama
from tests.recorded import pages_of, task_runs_of
from tests.signing_keys import make_pair

pytestmark = pytest.mark.usefixtures("prefect", "preforked_children")


def run(recipe: Recipe, until: str = "deploy") -> State[object]:
    return rebuild(recipe, until=until, return_state=True)  # type: ignore[call-overload,no-any-return]


def succeeded(recipe: Recipe, until: str = "deploy") -> RunSummary:
    report = run(recipe, until).result()
    assert isinstance(report, RunSummary)
    return report


def refused(recipe: Recipe, kind: type[KawanUsahaError], home: Path) -> str:
    """The flow fails with this error and leaves nothing that looks finished but the downloads."""
    state = run(recipe)
    error = state.result(raise_on_failure=False)
    assert isinstance(error, kind), error
    assert error.next_step
    assert str(error) in (state.message or "")
    stages = {artifact.key.stage for artifact in Store(home).artifacts()}
    assert stages <= {"download"}
    assert RunRecords(home).last(1) == []
    return str(error)


def states(report: RunSummary) -> dict[str, str]:
    return {stage.stage: "Cached" if stage.cached else "Completed" for stage in report.stages}


def test_second_run_finds_everything_done(recipe: Recipe, built_home: Path) -> None:
    first, second = succeeded(recipe), succeeded(recipe)
    done = ["base", "delta", "merge", "edit", "evaluate"]
    assert states(first) == {**dict.fromkeys(done, "Cached"), "publish": "Completed"}
    assert states(second) == dict.fromkeys([*done, "publish"], "Cached")
    assert [s.digest for s in second.stages] == [s.digest for s in first.stages]
    assert prunable(built_home, keep_runs=1).items == ()


def test_run_is_told_in_one_table_and_the_edit_before_and_after(
    recipe: Recipe, built_home: Path
) -> None:
    state = run(recipe)
    assert state.is_completed()
    assert "Gate passed. Published" in (state.message or "")
    assert str(recipe.publish.target if recipe.publish else "") in (state.message or "")
    found = pages_of(state, "plan", "edit", "evaluation", "rebuild")
    assert set(found) >= {"plan", "edit", "evaluation", "rebuild"}
    assert re.search(r"\| 2 \| .*silu.* \| .*gelu.* \|", found["edit"], re.IGNORECASE)
    assert re.search(r"\| merge \| Cached \| .* s \| .* kB \| .*B \|", found["rebuild"])
    page = (built_home / "reports" / "tiny.html").read_text()
    assert "Gate passed" in page


def test_changing_where_it_is_served_repeats_no_other_stage(
    recipe: Recipe, built_home: Path
) -> None:
    other = recipe.model_copy(update={"deploy": Deploy(device="cpu", gateway=Gateway(port=18999))})
    assert set(states(succeeded(other, "evaluate")).values()) == {"Cached"}


def test_model_that_was_published_is_the_release_although_serving_failed(
    recipe: Recipe, built_home: Path
) -> None:
    (built_home / "serving").mkdir()
    (built_home / "serving" / recipe.name).write_text("no directory, so that nothing can start")
    state = run(
        recipe.model_copy(update={"deploy": Deploy(device="cpu", gateway=Gateway(port=18999))})
    )
    assert state.is_failed()
    edited = next(a for a in Store(built_home).artifacts() if a.key.stage == "edit")
    assert RunRecords(built_home).releases(recipe.name) == [str(edited.key)]
    prune_store(built_home, unfinished=True)
    assert Store(built_home).find(edited.key) is not None


def test_model_that_is_only_served_is_no_release_before_it_is_served(
    recipe: Recipe, built_home: Path
) -> None:
    (built_home / "serving").mkdir()
    (built_home / "serving" / recipe.name).write_text("no directory, so that nothing can start")
    deploy = Deploy(device="cpu", gateway=Gateway(port=18999))
    served = recipe.model_copy(update={"publish": None, "deploy": deploy})
    assert run(served).is_failed()
    assert run(served, "publish").is_completed()
    assert RunRecords(built_home).releases(recipe.name) == []


def test_model_that_is_neither_published_nor_served_is_released_by_passing_its_gate(
    recipe: Recipe, built_home: Path
) -> None:
    kept = recipe.model_copy(update={"publish": None})
    succeeded(kept, "evaluate")
    assert RunRecords(built_home).releases(recipe.name) == []
    edited = succeeded(kept).stages[3]
    assert RunRecords(built_home).releases(recipe.name) == [edited.artifact]


@pytest.mark.slow
def test_freed_inputs_are_not_made_again_until_a_stage_has_to_read_them(
    recipe: Recipe, built_home: Path
) -> None:
    lean = recipe.model_copy(update={"keep": "released"})
    first = succeeded(lean)
    downloads = [stage.artifact for stage in first.stages[:2]]
    assert all(Store(built_home).freed(name) for name in downloads)
    second = succeeded(lean)
    assert set(states(second).values()) == {"Cached"}
    assert [s.digest for s in second.stages] == [s.digest for s in first.stages]
    assert all(Store(built_home).freed(name) for name in downloads)
    relu = Edit(activations=(ActivationEdit(layers=(0,), activation="relu"),))
    third = succeeded(lean.model_copy(update={"edit": relu}))
    assert states(third)["evaluate"] == "Completed"
    assert third.stages[0].digest == first.stages[0].digest
    assert all(Store(built_home).freed(name) for name in downloads)


def test_run_that_begins_after_an_unfinished_stage_is_refused_with_its_name(
    recipe: Recipe, built_home: Path
) -> None:
    relu = Edit(activations=(ActivationEdit(layers=(0,), activation="relu"),))
    other = recipe.model_copy(update={"edit": relu})
    error = rebuild(other, from_stage="evaluate", return_state=True).result(raise_on_failure=False)
    assert isinstance(error, StageMissing)
    assert "edit is not finished" in str(error)
    error = rebuild(recipe, from_stage="deploy", return_state=True).result(raise_on_failure=False)
    assert isinstance(error, StageMissing)
    assert "publish is not finished" in str(error)


def test_run_that_begins_at_a_stage_goes_on_there(recipe: Recipe, built_home: Path) -> None:
    report = rebuild(recipe, from_stage="evaluate", return_state=True).result()
    assert isinstance(report, RunSummary)
    assert states(report)["evaluate"] == "Cached"
    assert states(report)["publish"] == "Completed"


def test_run_that_only_serves_records_the_signature_that_was_published(
    recipe: Recipe, built_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert recipe.publish is not None
    pair = make_pair(tmp_path / "keys")
    pair.use(monkeypatch)
    publish = recipe.publish.model_copy(update={"signed_by": pair.public})
    signed = recipe.model_copy(update={"publish": publish})
    succeeded(signed)
    records = RunRecords(built_home)
    published = records.all()[0].release
    assert None not in published[2:]
    rebuild(signed, from_stage="deploy", return_state=True).result()
    assert records.all()[0].release == published
    assert sum(record.release == published for record in records.all()) == 2


def test_run_that_would_begin_after_its_end_is_refused(recipe: Recipe, home: Path) -> None:
    state = rebuild(recipe, from_stage="fuse", until="merge", return_state=True)
    assert isinstance(state.result(raise_on_failure=False), UsageError)


def test_explained_failure_of_a_recipe_by_name_is_words_there_too(
    recipe: Recipe, home: Path, tmp_path: Path
) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe.model_dump(mode="json")))
    state = rebuild_recipe(str(path), from_stage="edit", return_state=True)
    assert isinstance(state.result(raise_on_failure=False), StageMissing)
    assert (state.message or "").startswith("download is not finished")


def test_tasks_and_pages_of_a_recipe_by_name_are_those_of_the_run_that_was_started(
    recipe: Recipe, built_home: Path, tmp_path: Path
) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe.model_dump(mode="json")))
    overrides = ("evaluate.gate.max_perplexity_ratio=3", "publish=")
    state = rebuild_recipe(str(path), overrides=overrides, return_state=True)
    report = state.result()
    assert isinstance(report, RunSummary)
    assert report.recipe.publish is None
    assert report.recipe.evaluate.gate.max_perplexity_ratio == 3
    expected = {"plan tiny", "merge base + delta"}
    assert expected <= task_runs_of(state, *expected).keys()
    found = pages_of(state, "plan", "rebuild")
    for page in ("plan", "rebuild"):
        assert "`publish=`" in found[page]
    last = RunRecords(built_home).last(1)[0]
    assert last.overrides == overrides


def test_another_edit_keeps_download_and_merge(recipe: Recipe, built_home: Path) -> None:
    relu = Edit(activations=(ActivationEdit(layers=(0,), activation="relu"),))
    assert states(succeeded(recipe.model_copy(update={"edit": relu}), "edit")) == {
        "base": "Cached",
        "delta": "Cached",
        "merge": "Cached",
        "edit": "Completed",
    }


def test_stages_that_are_left_out_are_not_run(recipe: Recipe, home: Path) -> None:
    bare = recipe.model_copy(update={"delta": None, "edit": None, "publish": None})
    assert states(succeeded(bare)) == {"base": "Completed", "evaluate": "Completed"}


def test_failed_gate_stops_before_publishing(
    recipe: Recipe, built_home: Path, tmp_path: Path
) -> None:
    strict = recipe.evaluate.model_copy(update={"gate": Gate(max_perplexity=1.5)})
    state = run(recipe.model_copy(update={"evaluate": strict}))
    assert state.is_failed()
    assert "above the limit 1.5" in (state.message or "")
    assert not (tmp_path / "published").exists()
    assert any(a.key.stage == "evaluate" for a in Store(built_home).artifacts())


def test_layer_that_does_not_exist_is_refused(recipe: Recipe, home: Path) -> None:
    edit = Edit(activations=(ActivationEdit(layers=(47,), activation="gelu"),))
    state = run(recipe.model_copy(update={"edit": edit}))
    error = state.result(raise_on_failure=False)
    assert isinstance(error, RecipeError)
    assert "47" in str(error)
    assert not any(a.key.stage == "edit" for a in Store(home).artifacts())


def test_unknown_activation_is_refused_before_anything_starts(recipe: Recipe, home: Path) -> None:
    edit = Edit(activations=(ActivationEdit(activation="gelo"),))
    assert "gelu" in refused(recipe.model_copy(update={"edit": edit}), RecipeError, home)
    assert not list(Store(home).artifacts())


def test_delta_of_another_shape_is_refused(recipe: Recipe, home: Path, tmp_path: Path) -> None:
    wider = Base(directory=tiny_llama(tmp_path / "wider", hidden=64))
    refused(recipe.model_copy(update={"base": wider}), DeltaMismatch, home)


def test_directory_that_is_no_model_is_refused(recipe: Recipe, home: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    refused(recipe.model_copy(update={"base": Base(directory=tmp_path / "empty")}), NotAModel, home)


def test_port_that_is_taken_is_told_before_anything_starts(recipe: Recipe, home: Path) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        deploy = Deploy(device="cpu", gateway=Gateway(port=taken.getsockname()[1]))
        refused(recipe.model_copy(update={"deploy": deploy}), PortTaken, home)
    assert not list(Store(home).artifacts())


def test_gpu_that_is_not_there_is_told_before_anything_starts(recipe: Recipe, home: Path) -> None:
    evaluate = Evaluate.model_validate(recipe.evaluate.model_dump() | {"device": "cuda"})
    told = refused(recipe.model_copy(update={"evaluate": evaluate}), RecipeError, home)
    assert "evaluate.device" in told
    assert "deployment `demo`" in told


@pytest.mark.slow
def test_killed_run_goes_on_from_the_last_finished_stage(
    recipe: Recipe, home: Path, tmp_path: Path
) -> None:
    """SIGKILL in the evaluation; the next run finds everything before it in the store."""
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe.model_dump(mode="json")))
    command = Path(sys.executable).with_name("kawan-usaha")
    child = subprocess.Popen(
        [str(command), "rebuild", str(path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        env={**os.environ, "KAWAN_USAHA_HOME": str(home)},
    )
    assert child.stdout is not None
    for line in child.stdout:
        if "merged: loading" in line:
            os.killpg(child.pid, signal.SIGKILL)
            break
    else:
        pytest.fail("the run never reached the evaluation")
    child.stdout.close()
    assert child.wait() == -signal.SIGKILL
    (killed,) = RunRecords(home).unfinished()
    stages = [name.split("-")[0] for name in killed.artifacts]
    assert stages == ["download", "download", "merge", "edit", "evaluate"]
    assert prunable(home).items == ()
    assert states(succeeded(recipe)) == {
        "base": "Cached",
        "delta": "Cached",
        "merge": "Cached",
        "edit": "Cached",
        "evaluate": "Completed",
        "publish": "Completed",
    }
