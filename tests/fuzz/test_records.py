"""Records, answers and journals that a program of ours reads: whatever lies there is explained.

Written by this project itself, and yet half written, of another version, from another machine, or
changed by hand. A reader returns a value or raises KawanUsahaError, and never leaves its directory.
"""

import hashlib
import json
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, note, settings

from tasks.core.errors import EditLost, EvaluationFailed, KawanUsahaError
from tasks.core.files.digests import FileDigest
from tasks.core.keys import stage_key
from tasks.core.machine.activity import running_work
from tasks.core.model.edit_fingerprint import EditFingerprint, read_fingerprint
from tasks.core.process.answer_file import error_left_in, read_answer
from tasks.core.recipe.file import load_recipe
from tasks.core.serving.client.worker_access import read_access
from tasks.core.serving.gateway.keys import Keys
from tasks.core.serving.gateway.routing import _routes
from tasks.core.serving.state.directory import StateDirectory, state_directory
from tasks.core.serving.state.files import read_deployment, read_previous, used_builds
from tasks.core.store import RemoteStore, Staging, Store
from tasks.core.store.releases import take_releases
from tasks.core.store.run_record import OpenRun, RunRecord
from tasks.core.store.runs import RunRecords
from tasks.core.training.checkpoints.directory import adopt
from tasks.core.training.events import StepDone, from_line
from tasks.core.training.failures import Failure, StopReason, read_failures
from tasks.core.training.job import (
    LoggedStep,
    TrainingOutcome,
    ValidatedStep,
    read_training_outcome,
)
from tasks.core.weights.journal import ShardJournal
from tests.deployments import deployment, put_on_record
from tests.fuzz.mutations import EXAMPLES, Mutation, mutations

FEW = 20
KEY = stage_key("merge", 1, {})


@dataclass(frozen=True)
class Case:
    """What a program writes into a directory, and how it reads that again."""

    write: Callable[[Path], object]
    read: Callable[[Path], object]


def _write_store(home: Path) -> None:
    def write(staging: Staging) -> None:
        (staging.path / "weights").write_bytes(b"weights")

    Store(home).build(KEY, write, params={"dtype": "float16"}, inputs={"base": "b" * 64})
    for path in (home / "store").rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    shutil.rmtree(home / "store" / ".locks")


def _read_store(home: Path) -> None:
    store = Store(home)
    assert len([*store.artifacts(), *store.freed_artifacts()]) <= 1
    store.contents()
    store.verify()
    store.named(str(KEY))
    store.build(KEY, lambda staging: (staging.path / "weights").write_bytes(b"weights"))
    store.free(str(KEY))
    store.remove(store.contents()["artifact"])


def _write_remote(home: Path) -> None:
    _write_store(home / "ours")
    (home / "theirs").mkdir()
    store = Store(home / "ours", remote=RemoteStore.open(f"file://{home}/theirs"))
    store.push(str(KEY))
    shutil.rmtree(home / "ours")


def _read_remote(home: Path) -> None:
    said: list[str] = []
    store = Store(home / "here", say=said.append, remote=RemoteStore.open(f"file://{home}/theirs"))
    names = [name for name, _ in RemoteStore.open(f"file://{home}/theirs").artifacts()]
    for name in names:
        store.pull(name)
    store.build(KEY, lambda staging: (staging.path / "weights").write_bytes(b"weights"))
    assert list(store.verify().values()) == [[]]


def _write_state(home: Path) -> None:
    folder, content = home / "theirs" / "staging" / str(KEY), b"states"
    sha256 = hashlib.sha256(content).hexdigest()
    (folder / "files").mkdir(parents=True)
    (folder / "files" / sha256).write_bytes(content)
    files = {name: {"size_bytes": len(content), "sha256": sha256} for name in ("id", "step-1/s")}
    (folder / "state.json").write_text(json.dumps({"paths": ["id", "step-1"], "files": files}))


def _read_state(home: Path) -> None:
    def write(staging: Staging) -> None:
        with staging.handed_over(lambda: list(staging.path.glob("step-*"))):
            (staging.path / "weights").write_bytes(b"weights")

    Store(home / "here", remote=RemoteStore.open(f"file://{home}/theirs")).build(KEY, write)


def _write_runs(home: Path) -> None:
    records = RunRecords(home)
    for number in range(2):
        run = records.start("demo", recipe_digest=str(number), commits={"base": "c" * 40})
        run.add(str(KEY))
        run.release(str(KEY))
        run.finish()


def _read_runs(home: Path) -> None:
    records = RunRecords(home)
    records.all()
    records.unfinished()
    records.release_before("demo", "merge-0")
    records.last_commit("base")
    names = records.artifacts_of_last(2) | set(records.releases("demo"))
    assert not any("/" in name or ".." in name or "\x00" in name for name in names)
    records.forget(unfinished=True)


def _write_releases(home: Path) -> None:
    folder = home / "theirs" / "releases" / "demo"
    record = RunRecord(
        recipe="demo",
        started_at=datetime.now(UTC),
        artifacts=(str(KEY),),
        released=str(KEY),
        released_at=datetime.now(UTC),
    )
    OpenRun(folder / "demo-20260101T000000000000.json", record).save()


def _read_releases(home: Path) -> None:
    records = RunRecords(home / "here")
    take_releases(RemoteStore.open(f"file://{home}/theirs"), records, "demo")
    for name in records.releases("demo"):
        assert (home / "store" / name).resolve().parent == (home / "store").resolve()


def _write_training(work: Path) -> None:
    outcome = TrainingOutcome(
        steps=(LoggedStep(step=1, loss=2.0, learning_rate=1e-4),),
        tokens=10,
        validation=(ValidatedStep(step=1, loss=None),),
        validation_tokens=3,
    )
    (work / "outcome.json").write_text(outcome.model_dump_json())
    failure = Failure(rank=0, reason=StopReason.STOPPED, error="told to end")
    failure.write_beside(work / "outcome.json")


def _read_training(work: Path) -> None:
    read_training_outcome(work / "outcome.json")
    read_failures(work / "outcome.json")


def _write_serving(home: Path) -> None:
    state = state_directory(home, "kawan")
    put_on_record(state, deployment(state))


def _read_serving(home: Path) -> None:
    state = StateDirectory(home.resolve() / "serving" / "kawan")
    used_builds(home)
    running_work(home)
    for read in (read_deployment, read_previous):
        try:
            read(state)
        except KawanUsahaError as error:
            note(str(error))
    _routes(state.routes)


def _write_answers(directory: Path) -> None:
    fingerprint = EditFingerprint(
        prompt_ids=(1, 2), edited=(-1.0,), unedited=(-2.0,), dtype="float32", versions={"torch": ""}
    )
    (directory / "kawan_usaha_fingerprint.json").write_text(fingerprint.model_dump_json())
    left = {"error": EditLost("gone", where="here", next_step="again").as_dict()}
    (directory / "answer.json").write_text(json.dumps(left))


def _read_answers(directory: Path) -> None:
    error_left_in(directory / "answer.json")
    with suppress(EditLost):
        read_fingerprint(directory)
    name = directory / "kawan_usaha_fingerprint.json"
    read_answer(name, EditFingerprint, error=EvaluationFailed)


def _write_workers(directory: Path) -> None:
    access = {"http://127.0.0.1:1": {"key": "t" * 20, "certificate": None}}
    (directory / "workers.json").write_text(json.dumps(access))


def _write_journal(directory: Path) -> None:
    (directory / "shard.bin").write_bytes(b"weights")
    ShardJournal(directory, "work").record("shard.bin", FileDigest(7, "0" * 64))


def _read_checkpoints(directory: Path) -> None:
    adopt(directory, {"seed": 1}, directory / "outcome.json")


def _read_event(directory: Path) -> None:
    line = directory / "line.json"
    text = line.read_text(errors="replace") if line.exists() else ""
    str(from_line(f"@kawan-usaha-step {text}"))


def _write_keys(directory: Path) -> None:
    (directory / "keys.json").write_text(
        json.dumps([{"name": "warung", "key": "k" * 20, "requests_per_minute": 3}])
    )
    (directory / "keys.json").chmod(0o600)


def _read_keys(directory: Path) -> None:
    if (directory / "keys.json").exists():
        (directory / "keys.json").chmod(0o600)
    Keys(directory / "keys.json", {})


STEP = StepDone(
    step=1,
    total_steps=2,
    loss=2.0,
    learning_rate=1e-4,
    tokens_per_s=70.0,
    memory_bytes=1 << 30,
    left_s=10.0,
)

RECIPE = {
    "name": "demo",
    "template": "vicuna_v1.1",
    "base": {"source": "owner/base", "revision": "main"},
    "edit": {"activations": [{"layers": "last", "activation": "gelu"}]},
    "finetune": {"data": "data/conversation.json", "learning_rate": 1e-4},
    "publish": None,
}

CASES = {
    "store": Case(_write_store, _read_store),
    "remote store": Case(_write_remote, _read_remote),
    "state handed over": Case(_write_state, _read_state),
    "runs": Case(_write_runs, _read_runs),
    "releases": Case(_write_releases, _read_releases),
    "training": Case(_write_training, _read_training),
    "serving": Case(_write_serving, _read_serving),
    "answers": Case(_write_answers, _read_answers),
    "workers": Case(_write_workers, lambda d: read_access(d / "workers.json")),
    "journal": Case(_write_journal, lambda d: ShardJournal(d, "work").finished("shard.bin")),
    "checkpoints": Case(
        lambda d: (d / "identity.json").write_text('{"seed": 1, "model": {"a": [1]}}'),
        _read_checkpoints,
    ),
    "keys": Case(_write_keys, _read_keys),
    "recipe": Case(
        lambda d: (d / "recipe.json").write_text(json.dumps(RECIPE)),  # JSON is YAML too
        lambda d: load_recipe(d / "recipe.json"),
    ),
    "events": Case(
        lambda d: (d / "line.json").write_text(json.dumps(asdict(STEP))),
        _read_event,
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_what_is_on_record_is_read_or_explained(name: str, tmp_path: Path) -> None:
    case, whole, place = CASES[name], tmp_path / "whole", tmp_path / "place"
    whole.mkdir()
    case.write(whole)

    @settings(
        max_examples=EXAMPLES or FEW,
        suppress_health_check=list(HealthCheck),
    )
    @given(mutations(whole))
    def explained(mutation: Mutation) -> None:
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(whole, place, symlinks=True)
        mutation.apply(place)
        before = sorted(tmp_path.iterdir())
        try:
            case.read(place)
        except KawanUsahaError as error:
            assert str(error).strip()
            note(str(error)[:2000])
        assert sorted(tmp_path.iterdir()) == before, "something was written outside"

    explained()
