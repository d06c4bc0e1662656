"""The life of an engine's process: refused, ended, told to end, and what it is started with."""

import os
import signal
import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from tasks.core.architecture.edit import edit_model
from tasks.core.architecture.promise import expected_report
from tasks.core.errors import EditLost, RecipeError, ServingFailed
from tasks.core.files.locks import holders
from tasks.core.machine.devices import SERVED_FROM
from tasks.core.model.edit_fingerprint import EditFingerprint
from tasks.core.process.ports import free_port
from tasks.core.recipe import Edit, RopeScalingEdit
from tasks.core.recipe.deploy import Deploy, EngineName
from tasks.core.serving.engines.base import Engine
from tasks.core.serving.engines.forward import prompt_logprobs
from tasks.core.serving.engines.process_arguments import EngineArguments
from tasks.core.serving.engines.registry import engine_of
from tasks.core.serving.proof.readiness import (
    EXPECTATION_VARIABLE,
    REFUSED,
    refusal_from,
)
from tests.models import tiny_llama
from tests.unit.serving.engines.clients import WAIT_S, ask, request, send
from tests.unit.serving.engines.conftest import (
    CONTEXT_TOKENS,
    ENGINES,
    Running,
    Start,
    launch_for,
    running,
    start,
    start_really,
)

PROMPT = [1, *range(60, 80)]


@pytest.mark.parametrize("name", ENGINES)
def test_a_model_without_the_promised_edit_is_refused_before_the_port_opens(name, edited, tmp_path):
    promised = {**(expected_report(edited) or {}), "activations": ["gelu"] * 3}
    launch = launch_for(name, edited, tmp_path / "blue", edit=promised)
    process = start(launch)
    assert process.wait(WAIT_S) == REFUSED, (launch.directory / "log").read_text()
    refusal = refusal_from((launch.directory / "refusal.json").read_text())
    assert isinstance(refusal, EditLost)
    assert "gelu" in str(refusal)
    assert "Uvicorn running" not in (launch.directory / "log").read_text()


@pytest.mark.parametrize("name", ENGINES)
def test_a_model_that_lost_its_class_is_refused(name, tmp_path, edited):
    plain = tiny_llama(tmp_path / "plain")
    launch = launch_for(name, plain, tmp_path / "blue", edit=expected_report(edited))
    assert start(launch).wait(WAIT_S) == REFUSED
    assert "reports no edit" in (launch.directory / "refusal.json").read_text()


@pytest.mark.parametrize("name", ENGINES)
def test_a_model_that_answers_like_its_unedited_twin_is_refused(name, edited, tmp_path):
    """Its modules are the promised ones, so that only what it answers can tell."""
    model = AutoModelForCausalLM.from_pretrained(
        edited, dtype=torch.float32, trust_remote_code=True
    )
    said = prompt_logprobs(model, PROMPT)
    fingerprint = EditFingerprint(
        prompt_ids=tuple(PROMPT),
        edited=tuple(value - 0.5 for value in said),
        unedited=tuple(said),
        dtype="float32",
        versions={},
    )
    directory = tmp_path / "blue"
    promised = expected_report(edited)
    launch = launch_for(name, edited, directory, edit=promised, fingerprint=fingerprint)
    assert start(launch).wait(WAIT_S) == REFUSED, (directory / "log").read_text()
    assert "without the edit" in (directory / "refusal.json").read_text()


HOW: dict[EngineName, Start] = {"fastchat": start_really, "transformers": start}
"""transformers is started as a user's is by the lifecycle of `tests/e2e`."""


@pytest.fixture(params=ENGINES)
def own(request: pytest.FixtureRequest, edited: Path, tmp_path: Path) -> Iterator[Running]:
    launch = launch_for(request.param, edited, tmp_path / "blue", edit=expected_report(edited))
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv(SERVED_FROM, str(tmp_path / "cpu.serving"))
        with running(launch, HOW[request.param]) as found:
            yield found


def test_told_to_end_it_tells_its_streams_and_ends_at_once(own, tmp_path):
    """vllm leaves them without an error or an end: a client takes that for a whole answer."""
    # The devices that it serves from are held as long as it lives.
    (holder,) = holders(tmp_path / "cpu.serving")
    assert (holder.pid, holder.what) == (
        own.pid,
        f"deployment {own.launch.directory.parent.name}",
    )
    endless = request(PROMPT, max_tokens=CONTEXT_TOKENS - len(PROMPT))
    with closing(send(own.url, endless)) as one, closing(send(own.url, endless)) as other:
        one.recv(10)
        own.process.send_signal(signal.SIGTERM)
        assert own.process.wait(own.engine.stop_wait_s) == -signal.SIGTERM
        assert '"code": "stopping"' in _rest(one)
        assert '"code": "stopping"' in _rest(other)
    with pytest.raises(ServingFailed, match="No connection"):
        own.engine.ready(own.url)


def _rest(connection: socket.socket) -> str:
    return b"".join(iter(lambda: connection.recv(65536), b"")).decode()


def test_answers_that_would_depend_on_their_neighbours_are_refused(tmp_path):
    """Dynamic RoPE takes its frequencies from the longest text of a batch."""
    (model := tmp_path / "edited").mkdir()
    edit = Edit(rope_scaling=RopeScalingEdit(rope_type="dynamic", factor=2.0))
    edit_model(tiny_llama(tmp_path / "plain"), edit, model)
    launch = launch_for("transformers", model, tmp_path / "blue", edit=expected_report(model))
    assert start(launch).wait(WAIT_S) == REFUSED
    refusal = refusal_from((launch.directory / "refusal.json").read_text())
    assert "--engine fastchat" in str(refusal)


@pytest.mark.slow
def test_fastchat_serves_8_bits_on_the_cpu_with_the_edit_alive(edited, tmp_path):
    launch = launch_for(
        "fastchat", edited, tmp_path / "blue", edit=expected_report(edited), load_8bit=True
    )
    with running(launch) as found:
        assert ask(found.url, PROMPT, logprobs=1, prompt_logprobs=0).finish_reason == "length"


def launched(
    name: EngineName, **settings: object
) -> tuple[Engine, EngineArguments, dict[str, str]]:
    """Return an engine, what its process would be told, and its environment."""
    port = free_port()
    directory = Path("/srv/vicuna-peft/blue")
    from tasks.core.serving.engines.base import Launch

    wanted = Deploy.model_validate({"engine": name, **settings})
    launch = Launch(wanted, "vicuna_v1.1", directory / "model", port, "bfloat16")
    engine = engine_of(name)
    engine.check(wanted)
    spec = engine.process(launch)
    assert spec.cwd == directory
    assert (spec.name, spec.priority) == ("engine", 1)
    return engine, EngineArguments.model_validate_json(spec.argv[-1]), dict(spec.env)


@pytest.mark.parametrize("name", ENGINES)
def test_a_process_sees_no_part_of_a_path_that_would_choose_an_adapter(name):
    _, told, _ = launched(name, device="cpu", load_8bit=False)
    assert told.model == "model"
    assert told.template == "vicuna_v1.1"


@pytest.mark.parametrize("name", ENGINES)
def test_a_cpu_process_sees_no_gpu_and_computes_in_the_fast_type(name):
    _, told, env = launched(name, device="cpu", load_8bit=False)
    assert (told.dtype, env["CUDA_VISIBLE_DEVICES"]) == ("bfloat16", "")
    assert env[EXPECTATION_VARIABLE] == "/srv/vicuna-peft/blue/expectation.json"
    assert "GOMP_SPINCOUNT" not in env  # supervisord's is inherited, which may be the user's own


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_a_process_has_no_more_threads_than_cores_that_it_may_use(device, monkeypatch):
    """Two threads on one core wait for each other at every layer."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        _, _, env = launched("transformers", device=device, load_8bit=False)
    finally:
        os.sched_setaffinity(0, before)
    assert env["OMP_NUM_THREADS"] == "1"


@pytest.mark.parametrize("name", ENGINES)
def test_a_gpu_process_keeps_its_own_type(name):
    _, told, env = launched(name, load_8bit=False)
    assert (told.dtype, told.device) == (None, "cuda")
    assert "CUDA_VISIBLE_DEVICES" not in env


def test_8_bit_over_several_gpus_is_refused_because_fastchat_would_load_16():
    with pytest.raises(RecipeError, match="8-bit"):
        launched("fastchat", load_8bit=True, gpus=2)
    assert launched("fastchat", load_8bit=False, gpus=2)[1].gpus == 2


@pytest.mark.parametrize(
    "settings",
    [{"gpus": 2, "load_8bit": False}, {"device": "cpu", "load_8bit": True}, {"load_8bit": True}],
)
def test_what_transformers_would_not_follow_is_refused(settings):
    with pytest.raises(RecipeError, match="transformers"):
        launched("transformers", **settings)


@pytest.mark.parametrize("name", ENGINES)
def test_the_engines_are_found_by_name(name):
    assert engine_of(name).name == name
