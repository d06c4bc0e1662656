"""One run over the store: what it records, frees, and makes again."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.core.errors import CorruptArtifact, StageMissing
from tasks.core.files.copies import link_or_copy
from tasks.core.files.locks import locked
from tasks.core.keys import StageKey, stage_key
from tasks.core.recipe import Keep
from tasks.core.store import Artifact, Built, RemoteStore, RunStore, Staging, Store
from tasks.core.store.links import Gain
from tasks.core.store.manifest import KEPT_WHEN_FREED_BYTES
from tasks.core.store.runs import RunRecords

WEIGHTS = b"w" * (1 << 18)


def a_run(home: Path, recipe: str = "demo", keep: Keep = "released", **options: object) -> RunStore:
    run = RunRecords(home).start(recipe, recipe_digest="d", reach=7, keep=keep)
    return RunStore(home, run, **options)  # type: ignore[arg-type]


class Chain:
    """base, delta -> merge -> edit (hard links) -> fuse -> evaluate; `written` counts the work."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.written: list[str] = []
        self.edits = 0

    def base(self) -> Built:
        return self._make("base", {}, lambda path: path.write_bytes(WEIGHTS))

    def delta(self) -> Built:
        return self._make("delta", {}, lambda path: path.write_bytes(WEIGHTS + b"d"))

    def merge(self, base: Artifact, delta: Artifact) -> Built:
        def write(path: Path) -> None:
            read = (base.path / "w").read_bytes() + (delta.path / "w").read_bytes()
            path.write_bytes(read)

        return self._make("merge", {"base": base, "delta": delta}, write)

    def edit(self, merged: Artifact) -> Built:
        def write(path: Path) -> None:
            link_or_copy(merged.path / "w", path)
            (path.parent / "config").write_text("gelu")

        return self._make("edit", {"model": merged}, write)

    def fuse(self, edited: Artifact, rank: int = 8) -> Built:
        def write(path: Path) -> None:
            path.write_bytes((edited.path / "w").read_bytes() + str(rank).encode())

        return self._make("fuse", {"model": edited}, write, rank=rank)

    def evaluate(self, models: Sequence[Artifact]) -> Built:
        def write(path: Path) -> None:
            path.write_text(str([len((model.path / "w").read_bytes()) for model in models]))

        return self._make("evaluate", {str(i): model for i, model in enumerate(models)}, write)

    def whole(self, rank: int = 8) -> dict[str, Built]:
        """Run all stages as the flow does, freeing where it frees."""
        base, delta = self.base(), self.delta()
        merged = self.merge(base.artifact, delta.artifact)
        run = self.store
        assert isinstance(run, RunStore)
        run.done_with(str(delta.artifact.key))
        edited = self.edit(merged.artifact)
        fused = self.fuse(edited.artifact, rank)
        models = [built.artifact for built in (base, merged, edited, fused)]
        figures = self.evaluate(models)
        run.done_with(*(str(model.key) for model in models[:-1]))
        run.release(str(fused.artifact.key))
        run.finish()
        names = ("base", "delta", "merge", "edit", "fuse", "evaluate")
        return dict(zip(names, (base, delta, merged, edited, fused, figures), strict=True))

    def _make(self, stage: str, inputs: dict[str, Artifact], write, **params: object) -> Built:
        digests = {role: artifact.digest for role, artifact in inputs.items()}
        key = stage_key(stage, 1, params, digests)

        def counted(staging: Staging) -> None:
            self.written.append(stage)
            write(staging.path / "w")

        needs = [str(artifact.key) for artifact in inputs.values()]
        return self.store.build(key, counted, params=params, inputs=digests, needs=needs)


def on_disk(home: Path) -> set[str]:
    return {artifact.key.stage for artifact in Store(home).artifacts()}


def test_failing_stage_is_recorded_before_it_begins(tmp_path: Path) -> None:
    key = stage_key("finetune", 1, {})

    def boom(_: Staging) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        a_run(tmp_path).build(key, boom)
    (record,) = RunRecords(tmp_path).unfinished()
    assert record.artifacts == (str(key),)


def test_all_is_kept_where_the_recipe_keeps_all(tmp_path: Path) -> None:
    Chain(a_run(tmp_path, keep="all")).whole()
    assert on_disk(tmp_path) == {"base", "delta", "merge", "edit", "fuse", "evaluate"}


def test_inputs_that_no_stage_needs_any_more_are_freed(tmp_path: Path) -> None:
    made = Chain(a_run(tmp_path)).whole()
    assert on_disk(tmp_path) == {"fuse", "evaluate"}
    assert (made["fuse"].artifact.path / "w").exists()


def test_small_files_of_a_freed_artifact_stay_beside_its_manifest(tmp_path: Path) -> None:
    run = a_run(tmp_path)

    def write(staging: Staging) -> None:
        (staging.path / "w").write_bytes(WEIGHTS)
        (staging.path / "code" / "acts").mkdir(parents=True)
        (staging.path / "code" / "acts" / "config").write_text("silu")
        (staging.path / "code" / "acts" / "largest").write_bytes(b"t" * KEPT_WHEN_FREED_BYTES)

    name = str(run.build(stage_key("base", 1, {}), write).artifact.key)
    note = tmp_path / "store" / ".freed" / name
    (note / "code" / "acts").mkdir(parents=True)
    (note / "code" / "acts" / "config").write_text("left by a freeing that was killed")
    run.done_with(name)
    assert Store(tmp_path).freed(name) is not None
    found = {str(path.relative_to(note)) for path in note.rglob("*") if path.is_file()}
    assert found == {"code/acts/config", "code/acts/largest", "manifest.json"}
    assert (note / "code" / "acts" / "config").read_text() == "silu"


def test_rerun_finds_everything_done_and_makes_no_freed_input_again(tmp_path: Path) -> None:
    first = Chain(a_run(tmp_path)).whole()
    again = Chain(a_run(tmp_path))
    second = again.whole()
    assert again.written == []
    assert all(built.cached for built in second.values())
    assert [b.artifact.digest for b in second.values()] == [
        b.artifact.digest for b in first.values()
    ]
    assert second["base"].artifact.freed
    assert not second["fuse"].artifact.freed


def test_stage_that_really_runs_has_its_freed_inputs_made_again_and_says_the_price(
    tmp_path: Path,
) -> None:
    Chain(a_run(tmp_path)).whole()
    said: list[str] = []
    changed = Chain(a_run(tmp_path, say=said.append))
    made = changed.whole(rank=16)
    assert changed.written == ["base", "delta", "merge", "edit", "fuse", "evaluate"]
    (price,) = [line for line in said if line.startswith("Freed by an earlier run and needed now")]
    assert all(f"{stage}-" in price for stage in ("base", "delta", "merge", "edit"))
    assert "MB" in price
    assert on_disk(tmp_path) == {"fuse", "evaluate"}
    assert not made["fuse"].cached


def test_freed_input_that_the_run_has_not_asked_for_is_not_made_again(tmp_path: Path) -> None:
    base = Chain(a_run(tmp_path)).whole()["base"].artifact
    run = a_run(tmp_path)
    with pytest.raises(CorruptArtifact, match="cannot rebuild it"), run.present([str(base.key)]):
        pytest.fail("it counts as present")


def test_input_that_comes_out_differently_the_second_time_is_refused(tmp_path: Path) -> None:
    Chain(a_run(tmp_path)).whole()

    class Another(Chain):
        def base(self) -> Built:
            return self._make("base", {}, lambda path: path.write_bytes(WEIGHTS + b"new"))

    with pytest.raises(CorruptArtifact, match="differently"):
        Another(a_run(tmp_path)).whole(rank=16)
    Another(a_run(tmp_path)).whole(rank=16)


def test_shared_weights_of_the_released_model_are_worth_nothing_and_stay(tmp_path: Path) -> None:
    run = a_run(tmp_path)
    chain = Chain(run)
    base, delta = chain.base().artifact, chain.delta().artifact
    merged = chain.merge(base, delta).artifact
    edited = chain.edit(merged).artifact
    run.done_with(str(base.key), str(delta.key), str(merged.key))
    assert on_disk(tmp_path) == {"merge", "edit"}
    assert Store(tmp_path).verify()[str(edited.key)] == []


@pytest.mark.parametrize(("gone_bytes", "stays"), [(10, True), (11, False)])
def test_what_shares_nine_tenths_with_others_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gone_bytes: int, stays: bool
) -> None:
    run = a_run(tmp_path)
    base = Chain(run).base().artifact
    monkeypatch.setattr("tasks.core.store.run.gains", lambda _: [Gain(10, gone_bytes, 100)])
    run.done_with(str(base.key))
    assert (Store(tmp_path).find(base.key) is not None) is stays


def test_models_that_share_weights_are_freed_together(tmp_path: Path) -> None:
    said: list[str] = []
    Chain(a_run(tmp_path, say=said.append)).whole()
    freed = {line.split("-")[0]: line for line in said if ": freed" in line}
    assert set(freed) == {"base", "delta", "merge", "edit"}
    assert "freed 0.0 MB" in freed["edit"]


def test_what_another_unfinished_run_needs_is_not_freed_until_that_run_is_done(
    tmp_path: Path,
) -> None:
    other = a_run(tmp_path, recipe="other")
    base = Chain(other).base().artifact
    Chain(a_run(tmp_path)).whole()
    assert "base" in on_disk(tmp_path)
    other.finish()
    Chain(a_run(tmp_path)).whole()
    assert Store(tmp_path).find(base.key) is None


def test_stopped_run_of_the_very_same_recipe_does_not_hold_what_this_one_is_done_with(
    tmp_path: Path,
) -> None:
    stopped = Chain(a_run(tmp_path))
    stopped.merge(stopped.base().artifact, stopped.delta().artifact)
    Chain(a_run(tmp_path)).whole()
    assert on_disk(tmp_path) == {"fuse", "evaluate"}


def test_what_another_recipe_keeps_or_released_or_serves_is_not_freed(tmp_path: Path) -> None:
    keeper = a_run(tmp_path, recipe="keeper", keep="all")
    base = Chain(keeper).base().artifact
    keeper.finish()
    releaser = a_run(tmp_path, recipe="releaser")
    chain = Chain(releaser)
    merged = chain.merge(base, chain.delta().artifact).artifact
    releaser.release(str(merged.key))
    releaser.finish()
    served = str(chain.delta().artifact.key)
    Chain(a_run(tmp_path, in_use=lambda: {served})).whole()
    assert {"base", "merge", "delta"} <= on_disk(tmp_path)


def test_what_another_recipe_kept_before_its_last_rebuild_is_freed(tmp_path: Path) -> None:
    keeper = a_run(tmp_path, recipe="keeper", keep="all")
    Chain(keeper).base()
    keeper.finish()
    a_run(tmp_path, recipe="keeper", keep="all").finish()
    Chain(a_run(tmp_path)).whole()
    assert on_disk(tmp_path) == {"fuse", "evaluate"}


def test_artifact_that_another_process_reads_is_not_freed(tmp_path: Path) -> None:
    run = a_run(tmp_path)
    base = Chain(run).base().artifact
    with locked(tmp_path / "store" / ".locks" / str(base.key), "reader", shared=True):
        run.done_with(str(base.key))
        assert Store(tmp_path).find(base.key) is not None
    run.done_with(str(base.key))
    assert Store(tmp_path).find(base.key) is None


def test_freeing_that_fails_does_not_fail_the_run(tmp_path: Path) -> None:
    said: list[str] = []
    run = a_run(tmp_path, say=said.append)
    base = Chain(run).base().artifact
    (tmp_path / "store" / ".freed").write_text("in the way")
    run.done_with(str(base.key))
    assert "cannot be freed" in said[0]
    assert Store(tmp_path).find(base.key) is not None


def test_store_outside_of_a_run_makes_a_freed_artifact_again(tmp_path: Path) -> None:
    Chain(a_run(tmp_path)).whole()
    plain = Chain(Store(tmp_path))
    built = plain.base()
    assert plain.written == ["base"]
    assert (built.artifact.path / "w").read_bytes() == WEIGHTS
    assert Store(tmp_path).freed(str(built.artifact.key)) is None


def test_damaged_note_of_a_freed_artifact_makes_it_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    base = Chain(a_run(tmp_path)).whole()["base"].artifact
    note = tmp_path / "store" / ".freed" / str(base.key) / "manifest.json"
    note.chmod(0o644)
    note.write_text("{")
    again = Chain(a_run(tmp_path))
    with caplog.at_level(logging.WARNING):
        assert not again.base().cached
    assert "cannot be read" in caplog.text


def test_kill_between_note_and_removal_leaves_the_artifact_whole(tmp_path: Path) -> None:
    run = a_run(tmp_path)
    base = Chain(run).base().artifact

    class Killed(RunStore):
        def _remove(self, directory: Path) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Killed(tmp_path, RunRecords(tmp_path).start("demo")).free(str(base.key))
    found = Chain(a_run(tmp_path)).base()
    assert found.cached
    assert not found.artifact.freed


@settings(
    max_examples=8,
)
@given(
    runs=st.lists(
        st.tuples(
            st.sampled_from(["a", "b"]),
            st.sampled_from([8, 16]),
            st.sampled_from(get_args(Keep)),
        ),
        min_size=1,
        max_size=4,
    )
)
def test_whatever_runs_came_before_each_result_is_the_same_and_releases_stay(
    tmp_path_factory: pytest.TempPathFactory, runs: list[tuple[str, int, Keep]]
) -> None:
    home = tmp_path_factory.mktemp("home")
    expected = {
        rank: {
            name: built.artifact.digest
            for name, built in Chain(a_run(tmp_path_factory.mktemp("reference")))
            .whole(rank)
            .items()
        }
        for rank in {rank for _, rank, _ in runs}
    }
    released: set[StageKey] = set()
    for recipe, rank, keep in runs:
        made = Chain(a_run(home, recipe, keep)).whole(rank)
        assert {n: b.artifact.digest for n, b in made.items()} == expected[rank]
        released.add(made["fuse"].artifact.key)
        assert all(Store(home).find(key) is not None for key in released)
    assert all(problems == [] for problems in Store(home).verify().values())


def test_what_is_to_be_finished_is_never_built(tmp_path: Path) -> None:
    chain = Chain(a_run(tmp_path, finished={"base"}))
    with pytest.raises(StageMissing, match="base is not finished"):
        chain.base()
    assert chain.written == []
    assert list((tmp_path / "store" / ".staging").iterdir()) == []


def test_what_is_finished_is_found_and_the_rest_is_built(tmp_path: Path) -> None:
    chain = Chain(a_run(tmp_path, keep="all"))
    base, delta = chain.base().artifact, chain.delta().artifact
    resumed = Chain(a_run(tmp_path, keep="all", finished={"base", "delta"}))
    assert resumed.base().cached
    assert resumed.delta().cached
    assert not resumed.merge(base, delta).cached


def test_a_freed_input_is_not_made_again_for_a_run_that_begins_after_it(tmp_path: Path) -> None:
    Chain(a_run(tmp_path)).whole()
    resumed = Chain(a_run(tmp_path, finished={"base", "delta", "merge"}))
    resumed.base(), resumed.delta()
    merged = resumed.merge(resumed.base().artifact, resumed.delta().artifact).artifact
    edited = resumed.edit(merged).artifact
    with pytest.raises(StageMissing, match="merge is not finished"):
        resumed.store.build(stage_key("other", 1, {}), lambda _: None, needs=[str(merged.key)])
    assert edited.freed


# --- with a remote store --------------------------------------------------------------------


@pytest.fixture
def shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RemoteStore:
    (tmp_path / "shared").mkdir()
    monkeypatch.setattr("tasks.core.store.run.FETCHED_AT_ONCE_BYTES", len(WEIGHTS))
    return RemoteStore.open(f"file://{tmp_path}/shared")


def _through_fuse(chain: Chain) -> Built:
    merged = chain.merge(chain.base().artifact, chain.delta().artifact).artifact
    return chain.fuse(chain.edit(merged).artifact)


def test_of_a_large_artifact_elsewhere_only_what_a_stage_reads_is_fetched(
    tmp_path: Path, shared: RemoteStore
) -> None:
    first = Chain(a_run(tmp_path / "first", keep="all", remote=shared))
    _through_fuse(first)
    store = a_run(tmp_path / "second", keep="all", remote=shared)
    second = Chain(store)
    merged = second.merge(second.base().artifact, second.delta().artifact).artifact
    edited = second.edit(merged).artifact
    fused = second.fuse(edited, rank=16)
    assert second.written == ["fuse"]
    assert not fused.cached
    assert edited.path.is_dir()
    assert not merged.path.exists()
    assert store.verify().keys() == {str(edited.key), str(fused.artifact.key)}


def test_a_large_artifact_that_is_broken_elsewhere_is_made_again(
    tmp_path: Path, shared: RemoteStore
) -> None:
    first = Chain(a_run(tmp_path / "first", keep="all", remote=shared))
    fused = _through_fuse(first).artifact
    weights = fused.manifest.files["w"].sha256
    shared.place.replace(f"files/{weights}", b"short")
    store = a_run(tmp_path / "second", keep="all", remote=shared)
    second = Chain(store)
    again = _through_fuse(second)
    assert again.cached
    with store.present([str(again.artifact.key)]):
        assert (again.artifact.path / "w").read_bytes() == (fused.path / "w").read_bytes()
    assert second.written == ["fuse"]
