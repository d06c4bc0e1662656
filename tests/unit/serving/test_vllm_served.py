"""A tiny edited model in the real vLLM, asked by the engine protocol.

With `make vllm` and `make test-vllm`.
"""

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import pytest
import torch
from transformers import AutoModelForCausalLM

from tasks.core.architecture.edit import edit_model
from tasks.core.architecture.promise import expected_report
from tasks.core.architecture.renew_edit_fingerprint import renew_fingerprint
from tasks.core.errors import EditLost, ServingFailed
from tasks.core.files.locks import holders
from tasks.core.machine import devices
from tasks.core.model.edit_fingerprint import read_fingerprint
from tasks.core.process import child_environment
from tasks.core.process.ports import free_port
from tasks.core.process.tree import environment_of
from tasks.core.recipe import ActivationEdit, Edit, RopeScalingEdit
from tasks.core.recipe.deploy import Deploy
from tasks.core.serving.engines.base import Launch
from tasks.core.serving.engines.vllm import Vllm
from tasks.core.serving.engines.vllm_environment import EXTRA_ARGUMENTS
from tasks.core.serving.engines.vllm_process import end_leftovers
from tasks.core.serving.proof.readiness import EXPECTATION_VARIABLE, Expectation
from tests.models import tiny_llama
from tests.secrets import SECRETS
from tests.vllm import NEEDS_VLLM

pytestmark = NEEDS_VLLM

EDIT = Edit(
    activations=(ActivationEdit(layers=("all",), activation="gelu"),),
    rope_scaling=RopeScalingEdit(rope_type="linear", factor=2.0),
)
CONTEXT_TOKENS = 4096
NAME = "Kawan-Usaha"
START_S = 900.0
PROMPTS = [(1, 75, 67, 78, 81), (1, 86, 71), tuple(range(3, 120)), (1,), (5, 5, 5, 5)]
LONG = {"prompt": [1, 75, 67], "max_tokens": 1200, "temperature": 0}


@dataclass(frozen=True)
class Running:
    """A server of vLLM that takes requests, and what it must prove."""

    launch: Launch
    expectation: Expectation
    process: subprocess.Popen[bytes]

    @property
    def completions(self) -> str:
        return f"{self.launch.url}/v1/completions"

    def ask(self, **body: object) -> httpx.Response:
        wanted = {"model": NAME, "temperature": 0, **body}
        return httpx.post(self.completions, json=wanted, timeout=120, trust_env=False)

    @contextmanager
    def stream(self, **body: object) -> Iterator[Iterator[str]]:
        """Yield the data of the events of a streamed answer."""
        options = {"stream": True, "stream_options": {"include_usage": True}}
        wanted = {"model": NAME, **options, **body}
        client = httpx.Client(trust_env=False, timeout=120)
        with client, client.stream("POST", self.completions, json=wanted) as answer:
            assert answer.status_code == 200
            yield (line.removeprefix("data: ") for line in answer.iter_lines() if line)

    def gauge(self, name: str) -> float:
        text = httpx.get(f"{self.launch.url}/metrics", trust_env=False).text
        lines = [line for line in text.splitlines() if line.startswith(f"vllm:{name}{{")]
        return sum(float(line.rpartition(" ")[2]) for line in lines)

    def wait_until_idle(self, wait_s: float) -> None:
        until = time.monotonic() + wait_s
        while self.gauge("num_requests_running"):
            assert time.monotonic() < until, "an answer goes on without a client"
            time.sleep(0.05)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plain model whose heads are of a size that vLLM has (32), and the edited one."""
    root = tmp_path_factory.mktemp("models")
    tiny_llama(root / "plain", hidden=128, dtype="float32")
    (root / "edited").mkdir()
    edit_model(root / "plain", EDIT, root / "edited")
    renew_fingerprint(root / "edited")
    return root


@contextmanager
def _serving(model: Path, promised: Path, root: Path) -> Iterator[Running]:
    """Serve `model`, of which what `promised` holds is expected."""
    gateway = {"max_running": 3, "max_queued": 2}
    settings = Deploy.model_validate(
        {"engine": "vllm", "device": "cpu", "load_8bit": False, "gateway": gateway}
    )
    (root / "model").symlink_to(model)
    port = free_port()
    launch = Launch(settings, "vicuna_v1.1", root / "model", port, "float32")
    expectation = Expectation(
        build="build-1",
        template="vicuna_v1.1",
        edit=expected_report(promised),
        fingerprint=read_fingerprint(promised),
    )
    launch.expectation.write_text(expectation.model_dump_json())
    with pytest.MonkeyPatch.context() as patch:
        for name, value in SECRETS.items():
            patch.setenv(name, value)
        patch.setenv(EXTRA_ARGUMENTS, "--enforce-eager")  # compiling takes two minutes more
        spec = Vllm().process(launch)
        served_from = devices.served_from("cpu", None)
        env = {**child_environment(os.environ), **spec.env, devices.SERVED_FROM: served_from}
    with (root / "engine.log").open("wb") as log:
        process = subprocess.Popen(
            spec.argv,
            env=env,
            cwd=spec.cwd,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        _wait_until_ready(launch, process, root / "engine.log")
        yield Running(launch, expectation, process)
    finally:
        process.kill()
        process.wait()
        end_leftovers(launch.expectation)


def _wait_until_ready(launch: Launch, process: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + START_S
    while True:
        try:
            Vllm().ready(launch.url)
        except ServingFailed:
            assert process.poll() is None, log.read_text()[-5000:]
            assert time.monotonic() < until, log.read_text()[-5000:]
            time.sleep(0.5)
        else:
            return


@pytest.fixture(scope="module")
def unproven(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    edited = models / "edited"
    with _serving(edited, edited, tmp_path_factory.mktemp("start")) as running:
        yield running


@pytest.fixture
def served(unproven: Running) -> Running:
    Vllm().prove(unproven.launch.url, unproven.expectation)
    return unproven


def test_model_whose_edit_was_dropped_is_no_proof(models: Path, tmp_path: Path) -> None:
    """The same weights as a plain LLaMA: vLLM serves them without a word.

    And what its server leaves when it is killed does not hold the memory that the next one needs.
    """
    with _serving(models / "plain", models / "edited", tmp_path) as running:
        with pytest.raises(EditLost, match="like the one without the edit"):
            Vllm().prove(running.launch.url, running.expectation)
        assert running.ask(prompt=[1], max_tokens=1).status_code == 425
        tree = psutil.Process(running.process.pid).children(recursive=True)
        running.process.kill()
        running.process.wait()
        end_leftovers(running.launch.expectation)
        held = [process.memory_info().rss for process in tree if process.is_running()]
    assert sum(held) == 0  # what nobody has buried yet holds none


def test_nobody_gets_an_answer_before_the_proof(unproven: Running) -> None:
    """The first one with this server: whoever uses `served` has proven it."""
    assert unproven.ask(prompt=[1], max_tokens=1).status_code == 425
    health = httpx.get(f"{unproven.launch.url}/health", trust_env=False)
    assert health.status_code == 425
    Vllm().prove(unproven.launch.url, unproven.expectation)
    assert unproven.ask(prompt=[1], max_tokens=1).status_code == 200


def test_edit_is_proven_in_the_process_that_serves(served: Running) -> None:
    report = Vllm().prove(served.launch.url, served.expectation)
    assert report.edit is not None
    assert report.edit["verdict"] == "alive"
    assert (report.build, report.device, report.dtype) == ("build-1", "cpu", "float32")
    assert report.context_length_tokens == CONTEXT_TOKENS
    assert report.resident_bytes > 100e6


def test_another_build_is_no_proof(served: Running) -> None:
    other = served.expectation.model_copy(update={"build": "build-2"})
    with pytest.raises(ServingFailed, match="another build"):
        Vllm().prove(served.launch.url, other)


def test_plain_expectation_needs_no_fingerprint(served: Running) -> None:
    plain = served.expectation.model_copy(update={"edit": None, "fingerprint": None})
    assert Vllm().prove(served.launch.url, plain).edit is None


def test_server_holds_the_lock_of_its_device_and_no_secret(served: Running) -> None:
    process = psutil.Process(served.process.pid)
    shown = holders(devices.lock_directory() / "cpu.serving")
    assert served.process.pid in [holder.pid for holder in shown]
    assert "vllm.entrypoints" in " ".join(process.cmdline())
    for one in (process, *process.children(recursive=True)):
        environment = environment_of(one)
        assert environment[EXPECTATION_VARIABLE] == str(served.launch.expectation)
        told = json.dumps(dict(environment)) + json.dumps(one.cmdline())
        assert not [value for value in SECRETS.values() if value in told]


def test_answers_to_token_ids_are_those_of_transformers(served: Running, models: Path) -> None:
    """Greedy, all at once, token for token: our class, the scaled rotation, no token cut."""
    ours = AutoModelForCausalLM.from_pretrained(models / "edited", trust_remote_code=True).eval()

    def vllm_s(prompt: tuple[int, ...]) -> list[int]:
        answer = served.ask(prompt=list(prompt), max_tokens=32, return_token_ids=True).json()
        assert answer["usage"]["prompt_tokens"] == len(prompt)
        ids: list[int] = answer["choices"][0]["token_ids"]
        return ids

    def transformers_s(prompt: tuple[int, ...]) -> list[int]:
        ids = torch.tensor([prompt])
        with torch.no_grad():
            whole = ours.generate(ids, max_new_tokens=32, do_sample=False)
        return [int(token) for token in whole[0, len(prompt) :]]

    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(vllm_s, PROMPTS))
    assert found == [transformers_s(prompt) for prompt in PROMPTS]


def test_prompt_that_does_not_fit_is_refused_and_never_cut(served: Running) -> None:
    """Of an answer that does not fit vLLM makes a shorter one: the gateway refuses it before."""
    prompt = [5] * (CONTEXT_TOKENS - 10)
    usage = served.ask(prompt=prompt, max_tokens=11, stop_token_ids=[]).json()["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"]) == (len(prompt), 10)
    refused = served.ask(prompt=[5] * (CONTEXT_TOKENS + 1), max_tokens=1)
    assert refused.status_code == 400
    assert str(CONTEXT_TOKENS) in refused.json()["error"]["message"]


def test_client_that_leaves_frees_its_place(served: Running) -> None:
    with served.stream(**LONG) as events:
        next(events)
        assert served.gauge("num_requests_running") == 1
    served.wait_until_idle(5)
    assert served.gauge("generation_tokens_total") < served.gauge("prompt_tokens_total") + 1200


def test_unstreamed_answer_whose_client_leaves_frees_its_place(served: Running) -> None:
    with pytest.raises(httpx.ReadTimeout):
        wanted = {"model": NAME, **LONG}
        httpx.post(served.completions, json=wanted, timeout=2, trust_env=False)
    served.wait_until_idle(5)


def test_more_requests_than_there_are_places_get_a_503(served: Running) -> None:
    with ExitStack() as clients:
        for _ in range(3 + 2):  # running and waiting
            clients.enter_context(served.stream(**LONG))
        assert served.ask(**LONG).status_code == 503
    served.wait_until_idle(5)
    assert served.ask(prompt=[1], max_tokens=1).status_code == 200


def test_sigterm_lets_a_running_stream_finish(served: Running) -> None:
    """The last test: nothing of the server is left after it."""
    tree = psutil.Process(served.process.pid).children(recursive=True)
    with served.stream(**LONG) as events:
        first = json.loads(next(events))
        served.process.send_signal(signal.SIGTERM)
        rest = list(events)
    assert first["choices"][0]["finish_reason"] is None
    assert rest[-1] == "[DONE]"
    assert json.loads(rest[-2])["usage"]["completion_tokens"] == 1200
    assert json.loads(rest[-3])["choices"][0]["finish_reason"] == "length"
    served.process.wait(timeout=Vllm.stop_wait_s)
    _, left = psutil.wait_procs(tree, timeout=10)
    assert left == []
