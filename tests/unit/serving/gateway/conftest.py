"""One tiny model, an engine with it, and a gateway before it; each test may have others."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.models import tiny_llama
from tests.unit.serving.gateway.world import Engine, Gateway, Process, a_route, until


@pytest.fixture(scope="package")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_llama(tmp_path_factory.mktemp("gateway") / "model", dtype="float32")


@pytest.fixture(scope="package")
def shared_engine(tmp_path_factory: pytest.TempPathFactory, model: Path) -> Iterator[Engine]:
    engine = Engine(tmp_path_factory.mktemp("engine"), model)
    try:
        until(engine.answers)
        yield engine
    finally:
        engine.end()


@pytest.fixture
def engine(shared_engine: Engine) -> Iterator[Engine]:
    """An engine that behaves, that has nothing to do, and whose past is forgotten."""
    until(lambda: shared_engine.state()["running"] == 0)
    yield shared_engine
    shared_engine.misbehave(None)


@pytest.fixture(scope="package")
def shared_gateway(
    tmp_path_factory: pytest.TempPathFactory, model: Path, shared_engine: Engine
) -> Iterator[Gateway]:
    directory = tmp_path_factory.mktemp("gateway")
    gateway = Gateway(directory, a_route(model, [shared_engine.url]))
    yield gateway
    gateway.end()


@pytest.fixture
def gateway(shared_gateway: Gateway, engine: Engine) -> Gateway:
    """A gateway with default limits and without keys, before an engine that behaves."""
    return shared_gateway


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Return what starts a process of a kind; all of them are ended with the test."""
    started: list[Process] = []

    def one(kind: type[Process], *arguments: Any, **options: Any) -> Process:
        directory = tmp_path / str(len(started))
        directory.mkdir()
        started.append(kind(directory, *arguments, **options))
        return started[-1]

    yield one
    for process in started:
        process.end()
