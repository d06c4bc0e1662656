"""Both engines as processes of their own, each over the same tiny edited model.

They are preforked; `test_processes` starts FastChat as a deployment does.
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from tasks.core.architecture.edit import edit_model
from tasks.core.architecture.promise import expected_report
from tasks.core.errors import ServingFailed
from tasks.core.model.edit_fingerprint import EditFingerprint
from tasks.core.process.ports import free_port
from tasks.core.recipe import Edit, RopeScalingEdit
from tasks.core.recipe.deploy import Deploy, EngineName
from tasks.core.serving.engines.base import Engine, Launch
from tasks.core.serving.engines.forward import prompt_logprobs
from tasks.core.serving.engines.registry import engine_of
from tasks.core.serving.proof.readiness import Expectation
from tests.models import tiny_llama
from tests.prefork import preforked
from tests.unit.serving.engines.clients import NAME, WAIT_S
from tests.unit.serving.gateway.world import server_pid

ENGINES: tuple[EngineName, ...] = ("fastchat", "transformers")
TEMPLATE = "vicuna_v1.1"
CONTEXT_TOKENS = 4096


@dataclass(frozen=True)
class Running:
    engine: Engine
    launch: Launch
    process: subprocess.Popen[bytes]
    expectation: Expectation

    @property
    def url(self) -> str:
        return self.launch.url

    @property
    def pid(self) -> int:
        """The process that computes: `process` only waits for one that is preforked."""
        return server_pid(self.launch.port)

    @property
    def log(self) -> str:
        return (self.launch.directory / "log").read_text()


def launch_for(
    name: EngineName,
    model: Path,
    directory: Path,
    *,
    edit: object = None,
    fingerprint: EditFingerprint | None = None,
    **settings: object,
) -> Launch:
    """Lay out a start as a deployment does: a neutral link, an expectation, a cache for code."""
    directory.mkdir(parents=True)
    port = free_port()
    wanted = {"engine": name, "device": "cpu", "load_8bit": False, "model_name": NAME, **settings}
    launch = Launch(
        settings=Deploy.model_validate(wanted),
        template=TEMPLATE,
        model=directory / "model",
        port=port,
        cpu_dtype="float32",
    )
    launch.model.symlink_to(model)
    expected = Expectation(build="build-1", template=TEMPLATE, edit=edit, fingerprint=fingerprint)
    launch.expectation.write_text(expected.model_dump_json())
    return launch


Start = Callable[[Launch], subprocess.Popen[bytes]]


def start_really(launch: Launch) -> subprocess.Popen[bytes]:
    """Start an engine in a process that is started as a deployment does it."""
    return _start(launch, list)


def start(launch: Launch) -> subprocess.Popen[bytes]:
    """Start an engine as `tests.prefork` does."""
    return _start(launch, _preforked)


def _preforked(argv: Sequence[str]) -> list[str]:
    python = [sys.executable, "-P", "-m"]
    assert list(argv[: len(python)]) == python
    return preforked("torch", *argv[len(python) :])


def _start(
    launch: Launch, command: Callable[[Sequence[str]], list[str]]
) -> subprocess.Popen[bytes]:
    spec = engine_of(launch.settings.engine).process(launch)
    # As supervisord starts it: the server's environment, changed by what the process needs.
    env = {**os.environ, **spec.env}
    with (launch.directory / "log").open("wb") as log:
        return subprocess.Popen(command(spec.argv), env=env, cwd=spec.cwd, stdout=log, stderr=log)


def end(process: subprocess.Popen[bytes], *, wait_s: float = 60) -> int:
    process.terminate()
    try:
        return process.wait(wait_s)
    finally:
        process.kill()


@contextmanager
def running(launch: Launch, start: Start = start) -> Iterator[Running]:
    engine = engine_of(launch.settings.engine)
    process = start(launch)
    try:
        deadline = time.monotonic() + WAIT_S
        while True:
            try:
                engine.ready(launch.url)
                break
            except ServingFailed as error:
                log = (launch.directory / "log").read_text()
                assert process.poll() is None, log
                assert time.monotonic() < deadline, f"{error}\n{log}"
                time.sleep(0.1)
        expectation = Expectation.model_validate_json(launch.expectation.read_bytes())
        yield Running(engine, launch, process, expectation)
    finally:
        end(process)


@pytest.fixture(scope="package")
def edited(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A three-layer LLaMA, edited, at a path full of traps: FastChat's adapters read it."""
    models = tmp_path_factory.mktemp("models") / "vicuna-13b peft"
    (model := models / "llama-2").mkdir(parents=True)
    plain = tiny_llama(model.parent / "plain", layers=3, max_positions=CONTEXT_TOKENS // 2)
    edit = Edit(rope_scaling=RopeScalingEdit(rope_type="linear", factor=2.0))
    edit_model(plain, edit, model)
    return model


@pytest.fixture(scope="package")
def fingerprint(edited: Path) -> EditFingerprint:
    """How the edited model and its unedited twin answer a prompt, as transformers loads them."""
    prompt = [1, *range(60, 90)]
    edited_says, twin_says = (
        prompt_logprobs(
            AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32, trust_remote_code=True),
            prompt,
        )
        for path in (edited, edited.parent / "plain")
    )
    return EditFingerprint(
        prompt_ids=tuple(prompt),
        edited=tuple(edited_says),
        unedited=tuple(twin_says),
        dtype="float32",
        versions={},
    )


@pytest.fixture(scope="package", params=ENGINES)
def served(
    request: pytest.FixtureRequest,
    edited: Path,
    fingerprint: EditFingerprint,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Running]:
    directory = tmp_path_factory.mktemp("vicuna-peft") / "blue"
    edit = expected_report(edited)
    launch = launch_for(request.param, edited, directory, edit=edit, fingerprint=fingerprint)
    with running(launch) as found:
        yield found
