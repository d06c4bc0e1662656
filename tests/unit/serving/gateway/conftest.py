"""One tiny model, an engine with it, and a gateway before it; each test may have others.

`door` is that gateway, and the gateway of a deployment of each real engine: what a client may ask
is written once and asked at every door.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from tasks.core.serving.engines.vllm_environment import EXTRA_ARGUMENTS
from tasks.core.serving.launch.deployment import deploy
from tasks.core.serving.launch.ending import stop
from tests.models import tiny_llama
from tests.unit.serving.conftest import end_servers_under
from tests.unit.serving.gateway.world import (
    Deployed,
    Door,
    Engine,
    Gateway,
    Process,
    a_route,
    engine_in,
    until,
)
from tests.vllm import NEEDS_VLLM

REAL_ENGINES = [
    pytest.param("fastchat", marks=pytest.mark.slow),
    pytest.param("transformers", marks=pytest.mark.slow),
    pytest.param("vllm", marks=NEEDS_VLLM),
]
_ASCII = slice(3, 97)
"""The tokens of the tiny tokenizer that are a printable character each."""


@pytest.fixture(scope="package")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its heads are of a size that vLLM has, and its likeliest word is never half a character."""
    path = tiny_llama(tmp_path_factory.mktemp("gateway") / "model", hidden=128, dtype="float32")
    llama = AutoModelForCausalLM.from_pretrained(path)
    head = llama.lm_head.weight.data
    spoken = head[_ASCII].clone()
    head.zero_()  # of 94 scores the highest is above 0
    head[_ASCII] = spoken
    llama.save_pretrained(path)
    return path


@dataclass(frozen=True)
class Reference:
    """What plain `generate` answers with the model that all of them serve."""

    llama: Any
    tokenizer: Any

    def ids(self, text: str) -> list[int]:
        found: list[int] = self.tokenizer(text).input_ids
        return found

    def __call__(self, prompt: str, tokens: int = 12) -> str:
        """Return the greedy answer."""
        ids = self.ids(prompt)
        found = self.llama.generate(torch.tensor([ids]), max_new_tokens=tokens, do_sample=False)
        text: str = self.tokenizer.decode(found[0, len(ids) :], skip_special_tokens=True)
        return text

    @torch.inference_mode()
    def prompt_logprobs(self, ids: list[int]) -> list[float]:
        scores = torch.log_softmax(self.llama(torch.tensor([ids])).logits[0], -1)
        return [float(scores[place, token]) for place, token in enumerate(ids[1:])]


@pytest.fixture(scope="package")
def reference(model: Path) -> Reference:
    llama = AutoModelForCausalLM.from_pretrained(model).eval()
    return Reference(llama, AutoTokenizer.from_pretrained(model))


@pytest.fixture(
    scope="package",
    params=["small", *REAL_ENGINES],
)
def door(
    request: pytest.FixtureRequest,
    model: Path,
    settings: Callable[..., Any],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Door]:
    if request.param == "small":
        yield request.getfixturevalue("shared_gateway")
        return
    home, name = tmp_path_factory.mktemp("home"), "kawan"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(EXTRA_ARGUMENTS, "--enforce-eager")  # compiling takes vLLM two minutes more
        wanted = settings(engine=request.param)
        try:
            yield Deployed(
                deploy(model, wanted, name=name, template="vicuna_v1.1", home=home, build="b1")
            )
            stop(home, name)
        finally:
            end_servers_under(home)


@pytest.fixture(scope="package")
def shared_engine(tmp_path_factory: pytest.TempPathFactory, model: Path) -> Iterator[Engine]:
    with engine_in(tmp_path_factory.mktemp("engine"), model) as engine:
        yield engine


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
