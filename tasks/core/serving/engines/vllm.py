"""vLLM as an engine: the fastest, in an environment of its own, with our class in its backend.

vLLM loads the class that lies in the model directory through its transformers backend. It replaces
modules (a gate and its activation become one), so that the edit is proven by what it answers.
"""

import os
import sys
from pathlib import Path
from typing import Final

import httpx
import psutil
from pydantic import BaseModel, Field, JsonValue, ValidationError

from tasks.core.errors import RecipeError
from tasks.core.recipe_deploy import Deploy
from tasks.core.serving.asked import failed
from tasks.core.serving.engines.base import Engine, Launch
from tasks.core.serving.engines.vllm_command import Arguments, Setup
from tasks.core.serving.engines.vllm_environment import EXTRA, vllm_python
from tasks.core.serving.engines.vllm_process import require_provable
from tasks.core.serving.fingerprint import PromptAnswer, ask_prompt, require_fingerprint
from tasks.core.serving.process_spec import ProcessSpec
from tasks.core.serving.report import EXPECTATION_VARIABLE, EngineReport, Expectation

_PACKAGE_ROOT = Path(__file__).resolve().parents[4]
_MODULE: Final = "tasks.core.serving.engines.vllm_process"
_QUICK_S: Final = 60.0
_ANY_PROMPT: Final = (0, 0)
"""What a plain model is asked: any two tokens that every vocabulary has."""


class Vllm(Engine):
    """vLLM's own server, which knows nothing of this project."""

    name = "vllm"
    # Not prompt_logprobs: it leaves them out of what it streams.
    takes = frozenset(
        {
            *("top_k", "min_p", "seed", "presence_penalty", "frequency_penalty"),
            *("repetition_penalty", "logprobs", "logit_bias"),
        }
    )
    embeds = False
    stop_wait_s = 120.0  # a minute for the last answers (`drain_s`), 15 s to end on an idle machine
    # Its server ends its own processes, once the answers in progress have been sent.
    stops_as_group = False

    def check(self, settings: Deploy) -> None:
        """Raise RecipeError where vLLM is not installed, or would not follow the settings."""
        vllm_python(os.environ)
        if settings.load_8bit and settings.device == "cpu":
            raise RecipeError(
                "vLLM has 8-bit weights on a GPU only (as fp8).",
                where="deploy.load_8bit",
                expected="load_8bit: false with device: cpu, or engine: fastchat",
                found="load_8bit: true, device: cpu",
            )

    def process(self, launch: Launch) -> ProcessSpec:
        """Return the process that serves `launch`. Raises RecipeError without vLLM."""
        settings = launch.settings
        arguments = Arguments(
            python=vllm_python(os.environ),
            model=launch.model.name,
            model_name=settings.model_name,
            port=launch.port,
            device=settings.device,
            gpus=settings.gpus,
            dtype=launch.cpu_dtype if settings.device == "cpu" else None,
            load_8bit=settings.load_8bit,
            running=settings.gateway.max_running,
            waiting=settings.gateway.max_queued,
            drain_s=settings.drain_s,
            beside=settings.switch == "side-by-side",
            extra=os.environ.get(EXTRA, ""),
        )
        return ProcessSpec(
            name="engine",
            argv=(sys.executable, "-P", "-m", _MODULE, "--settings", arguments.model_dump_json()),
            env=_environment(launch),
            cwd=launch.directory,
            priority=1,
            stop_wait_s=self.stop_wait_s,
            stops_as_group=self.stops_as_group,
        )

    def ready(self, url: str) -> None:
        """Return when it takes requests. Raises ServingFailed while it does not.

        Nothing for draining: it still says so when it no longer does.
        """
        _get(f"{url}/health")

    def prove(self, url: str, expectation: Expectation) -> EngineReport:
        """Return how it is set up, once it has answered like the model that was promised.

        Its first answer takes the time of warming up. edit is what the comparison found: the
        modules of vLLM are not the model's own.
        """
        require_provable(expectation)
        fingerprint = expectation.fingerprint if expectation.edit is not None else None
        served = _served(url)
        prompt = fingerprint.prompt_ids if fingerprint else _ANY_PROMPT
        answer = ask_prompt(url, served.id, prompt, streamed=False)
        setup = _setup(answer, url)
        if setup.build != expectation.build:
            raise failed("It serves another build.", url, setup.build, expectation.build)
        edit: dict[str, JsonValue] | None = None
        if fingerprint is not None:
            match = require_fingerprint(
                fingerprint, answer.logprobs, dtype=setup.rounds_like, where=url
            )
            edit = {"by": "log-probabilities", "found": str(match), "verdict": match.verdict}
        return EngineReport(
            build=setup.build,
            template=expectation.template,
            model_class="TransformersForCausalLM",
            device=setup.device,
            dtype=setup.rounds_like,
            context_length_tokens=served.max_model_len,
            resident_bytes=_resident_bytes(url),
            device_bytes=0,
            edit=edit,
        )


class _Model(BaseModel):
    id: str
    max_model_len: int


class _Models(BaseModel):
    data: list[_Model] = Field(min_length=1)


def _served(url: str) -> _Model:
    """Return what it calls its model, and how long a context it gives it."""
    where = f"{url}/v1/models"
    try:
        return _Models.model_validate_json(_get(where)).data[0]
    except ValidationError as error:
        raise failed("Another server answers there.", where, error) from error


def _setup(answer: PromptAnswer, url: str) -> Setup:
    try:
        return Setup.model_validate_json(answer.system_fingerprint or "")
    except ValidationError as error:
        found = answer.system_fingerprint
        raise failed("It was not started by this project.", url, found) from error


def _get(where: str) -> bytes:
    try:
        # trust_env: a proxy of the environment must not get requests to this machine itself.
        with httpx.Client(trust_env=False, timeout=_QUICK_S) as client:
            response = client.get(where)
    except httpx.HTTPError as error:
        raise failed("No answer.", where, repr(error)) from error
    if response.status_code != httpx.codes.OK:
        raise failed("The answer is an error.", where, response.status_code)
    return response.content


def _resident_bytes(url: str) -> int:
    """Return what its processes hold of this machine's memory; 0 where they cannot be seen."""
    port = httpx.URL(url).port
    try:
        listening = (c for c in psutil.net_connections("tcp") if c.laddr and c.laddr.port == port)
        pid = next((c.pid for c in listening if c.status == psutil.CONN_LISTEN), None)
        if pid is None:
            return 0
        server = psutil.Process(pid)
        tree = [server, *server.children(recursive=True)]
        return sum(process.memory_info().rss for process in tree)
    except psutil.Error:
        return 0


def _environment(launch: Launch) -> dict[str, str]:
    env = {
        "PYTHONPATH": str(_PACKAGE_ROOT),  # of the process that becomes the server; not vLLM's
        "PYTHONUNBUFFERED": "1",
        EXPECTATION_VARIABLE: str(launch.expectation),
        "HF_HUB_OFFLINE": "1",
        "HF_MODULES_CACHE": str(launch.modules),
        "TOKENIZERS_PARALLELISM": "false",
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
        # Waiting threads sleep. Spinning, OpenMP's took four times the CPU beside other work.
        "OMP_WAIT_POLICY": "PASSIVE",
        # By default it binds itself to the first cores: two engines, to the same ones.
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    }
    if launch.settings.device == "cpu":
        env["CUDA_VISIBLE_DEVICES"] = ""
    return env
