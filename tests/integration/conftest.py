import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.lifecycle import rebuild
from tasks.core.recipe import ActivationEdit, Base, Delta, Edit, Evaluate, Gate, Publish, Recipe
from tests.machines import AVX2, record_speed
from tests.made_once import directory_of_the_run, made_once
from tests.models import tiny_delta, tiny_llama
from tests.prefork import children_preforked
from tests.temporary_prefect import temporary_prefect


@pytest.fixture(autouse=True)
def _this_machine_is_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """A plan measures the CPU once a home, for some seconds, and each test here has its own."""
    monkeypatch.setattr("tasks.core.machine.hardware.measured_cpu_speed", lambda _: AVX2)


@pytest.fixture(scope="package")
def prefect(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A temporary Prefect server and database, which would cost CPU at rest after these tests."""
    with temporary_prefect(directory_of_the_run(tmp_path_factory)):
        yield


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("KAWAN_USAHA_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture(scope="session")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny base, a delta for it, held-out conversations and prompts."""
    return made_once(directory_of_the_run(tmp_path_factory) / "sources", make_sources)


def make_sources(root: Path) -> None:
    tiny_llama(root / "base", seed=1)
    tiny_delta(root / "base", tiny_llama(root / "target", seed=2), root / "delta")
    turns = [{"from": "human", "value": "Halo?"}, {"from": "gpt", "value": "Halo juga."}]
    (root / "held_out.json").write_text(json.dumps([{"id": "a", "conversations": turns}]))
    (root / "prompts.json").write_text(json.dumps([{"id": "p", "prompt": "Apa itu NIB?"}]))


@pytest.fixture
def recipe(sources: Path, tmp_path: Path) -> Recipe:
    """Everything but serving, published to a directory."""
    return tiny_recipe(sources, tmp_path / "published")


@pytest.fixture(scope="package")
def built(prefect: None, sources: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home in which that recipe is evaluated already: made once, to be copied."""

    def make(home: Path) -> None:
        record_speed(home)
        with children_preforked(), pytest.MonkeyPatch.context() as patch:
            patch.setenv("KAWAN_USAHA_HOME", str(home))
            rebuild(tiny_recipe(sources, home.parent / "published"), until="evaluate")

    return made_once(directory_of_the_run(tmp_path_factory) / "built", make)


@pytest.fixture
def built_home(built: Path, home: Path) -> Path:
    return Path(shutil.copytree(built, home))


def tiny_recipe(sources: Path, published: Path) -> Recipe:
    return Recipe(
        name="tiny",
        base=Base(directory=sources / "base"),
        delta=Delta(directory=sources / "delta"),
        edit=Edit(activations=(ActivationEdit(layers=(-1,), activation="gelu"),)),
        evaluate=Evaluate(
            conversations=sources / "held_out.json",
            prompts=sources / "prompts.json",
            max_new_tokens=4,
            device="cpu",
            gate=Gate(max_perplexity_ratio=2.0),
        ),
        publish=Publish(target=str(published), license="apache-2.0"),
    )
