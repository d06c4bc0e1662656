"""Whichever call of a stage fails: it is told, and the next try ends with the same bytes."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tasks.core.architecture.edit import edit_model
from tasks.core.conversation.prepared import prepare_examples
from tasks.core.errors import DataError, StorageRefused
from tasks.core.files.digests import digest_of
from tasks.core.files.durable import write_atomically
from tasks.core.hub.publish.publication import Publication
from tasks.core.hub.publish.to_filesystem import POINTER, publish_to_filesystem
from tasks.core.recipe import Finetune, Publish
from tasks.core.training.checkpoints.directory import (
    CHECKPOINTS,
    last_whole,
    mark_whole,
    prune_checkpoints,
)
from tasks.core.weights.fuse import fuse_adapter
from tasks.core.weights.merge import merge_delta
from tests.faults.conftest import Holds
from tests.faults.survey import Work, files_in
from tests.models import tiny_llama, tiny_tokenizer
from tests.unit.architecture.conftest import GELU_IN_THE_LAST
from tests.unit.hub.publish.world import Build
from tests.unit.weights.adapters import train
from tests.unit.weights.models import base_model, delta_for

pytestmark = pytest.mark.slow

_STARTER = Path(__file__).parents[2] / "data" / "conversation.json"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base, its delta, an adapter, and a LLaMA with a tokenizer."""
    root = tmp_path_factory.mktemp("models")
    base = base_model(root / "base")
    (base / "code").mkdir()
    (base / "code" / "own.py").write_text("own = 1\n")
    delta_for(base, root / "delta")
    train(base, root / "adapter", target_modules=["q_proj"])
    tiny_llama(root / "llama", layers=2)
    return root


def _copy_of(models: Path, *names: str) -> Callable[[Path], None]:
    def prepare(root: Path) -> None:
        for name in names:
            shutil.copytree(models / name, root / name)

    return prepare


def test_a_merge(holds: Holds, models: Path) -> None:
    def work(root: Path) -> None:
        merge_delta(root / "base", root / "delta", root / "out", max_shard_bytes=30_000, threads=1)

    prepare = _copy_of(models, "base", "delta")
    holds(Work(work, lambda root: files_in(root / "out"), prepare), at_most=40)


def test_an_edit(holds: Holds, models: Path) -> None:
    def work(root: Path) -> None:
        (root / "out").mkdir(exist_ok=True)
        edit_model(root / "llama", GELU_IN_THE_LAST, root / "out")

    prepare = _copy_of(models, "llama")
    holds(Work(work, lambda root: files_in(root / "out"), prepare), at_most=25)


def test_a_fuse(holds: Holds, models: Path) -> None:
    def work(root: Path) -> None:
        fuse_adapter(
            root / "base", root / "adapter", root / "out", max_shard_bytes=30_000, threads=1
        )

    prepare = _copy_of(models, "base", "adapter")
    holds(Work(work, lambda root: files_in(root / "out"), prepare), at_most=30)


def test_the_examples_of_a_training(holds: Holds, tmp_path: Path) -> None:
    def prepare(root: Path) -> None:
        tiny_tokenizer().save_pretrained(root / "model")
        (root / "data.json").write_text(json.dumps(json.loads(_STARTER.read_text())[:8]))
        (root / "out").mkdir()

    def work(root: Path) -> None:
        settings = Finetune(validation_share=0.0, max_length_tokens=4096)
        data, out = root / "data.json", root / "out"
        prepare_examples(root / "model", data, settings, "vicuna_v1.1", out=out)

    done = Work(work, lambda root: files_in(root / "out"), prepare, told_as=(DataError,))
    holds(done, at_most=30)


def test_a_checkpoint_of_a_training(holds: Holds) -> None:
    def work(root: Path) -> None:
        for step in (1, 2):
            path = root / CHECKPOINTS / f"checkpoint-{step}"
            path.mkdir(parents=True, exist_ok=True)
            write_atomically(path / "states.pt", "states" * 100)
            mark_whole(path)
        prune_checkpoints(root / CHECKPOINTS, keep=1)

    def look(root: Path) -> None:
        last = last_whole(root / CHECKPOINTS)
        assert last is None or (last / "states.pt").read_text() == "states" * 100

    holds(Work(work, files_in, look=look))


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Build:
    model = tiny_llama(tmp_path_factory.mktemp("build") / "model", layers=1, hidden=32)
    return Build.of("first", model)


def test_a_publish_to_a_directory(holds: Holds, build: Build) -> None:
    def work(root: Path) -> None:
        target = Publish(target=str(root / "models"))
        publish_to_filesystem(
            Publication(root / "build", build.files, build.card, build.name), target
        )

    def look(root: Path) -> None:
        pointer = root / "models" / POINTER
        if pointer.exists():
            path = root / "models" / json.loads(pointer.read_bytes())["path"]
            assert {name: digest_of(path / name) for name in build.files} == build.files

    def prepare(root: Path) -> None:
        shutil.copytree(build.model, root / "build")

    holds(
        Work(work, lambda root: files_in(root / "models"), prepare, look, (StorageRefused,)),
        at_most=40,
    )
