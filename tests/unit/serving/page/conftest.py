"""A real gateway before a tiny real model, and one whose answers are written by the test."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from tasks.core.recipe import Deploy
from tasks.core.serving.state.directory import state_directory
from tests.deployments import deployment, put_on_record
from tests.models import tiny_llama
from tests.unit.serving.gateway.world import Engine, Gateway, a_route, until
from tests.unit.serving.page.world import Page, Scripted


@pytest.fixture(scope="package")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    directory = tmp_path_factory.mktemp("engine")
    engine = Engine(directory, tiny_llama(directory / "model", dtype="float32"))
    try:
        until(engine.listens, within_s=300)
        yield engine
    finally:
        engine.end()


@pytest.fixture(scope="package")
def gateway(tmp_path_factory: pytest.TempPathFactory, engine: Engine) -> Iterator[Gateway]:
    directory = tmp_path_factory.mktemp("gateway")
    gateway = Gateway(directory, a_route(engine.log.parent / "model", [engine.url]))
    yield gateway
    gateway.end()


@pytest.fixture(scope="package")
def scripted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scripted]:
    scripted = Scripted(tmp_path_factory.mktemp("scripted"))
    yield scripted
    scripted.end()


@pytest.fixture(scope="package")
def home(tmp_path_factory: pytest.TempPathFactory, scripted: Scripted) -> Path:
    """A home with a deployment on record, whose gateway is the scripted one."""
    home = tmp_path_factory.mktemp("home")
    state = state_directory(home, "kawan")
    settings = Deploy.model_validate({"gateway": {"port": scripted.port}})
    model = tiny_llama(home / "model")
    put_on_record(state, deployment(state, model=model, settings=settings))
    return home


@pytest.fixture(scope="package")
def page(tmp_path_factory: pytest.TempPathFactory, scripted: Scripted) -> Iterator[Page]:
    pytest.importorskip("gradio")
    page = Page(tmp_path_factory.mktemp("page"), scripted.url, kept_days=90)
    yield page
    page.end()


@pytest.fixture(scope="package")
def collected(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("deployment") / "collected"


@pytest.fixture(scope="package")
def keeping_page(
    tmp_path_factory: pytest.TempPathFactory, engine: Engine, collected: Path
) -> Iterator[Page]:
    """One before a gateway that collects, with a real model behind it."""
    pytest.importorskip("gradio")
    directory = tmp_path_factory.mktemp("keeping")
    route = a_route(engine.log.parent / "model", [engine.url])
    gateway = Gateway(directory, route, collected=str(collected), collect={"retention_days": 90})
    page = Page(directory, gateway.url, kept_days=90)
    yield page
    page.end()
    gateway.end()


@pytest.fixture
def model_text(engine: Engine) -> Callable[[list[int]], str]:
    """Return what turns token ids into the text that the model was asked with."""
    tokenizer = AutoTokenizer.from_pretrained(engine.log.parent / "model")
    return lambda ids: str(tokenizer.decode(ids))
