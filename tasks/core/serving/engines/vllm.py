"""vLLM as an engine: the fastest, in an environment of its own.

vLLM loads the class in the model directory through its transformers backend. It replaces modules (a
gate and its activation become one), so the edit is proven by the answers.
"""

import os
from collections.abc import Mapping
from typing import Final

import httpx
import psutil
from pydantic import BaseModel, Field, JsonValue, ValidationError

from tasks.core.errors import RecipeError
from tasks.core.recipe.deploy import Deploy
from tasks.core.serving.client.access import Access
from tasks.core.serving.client.request import bad_answer, request_text
from tasks.core.serving.engines.base import Engine, Launch
from tasks.core.serving.engines.inside_vllm.kawan_usaha_gate import PROVEN_ROUTE, PROVER
from tasks.core.serving.engines.request import OPTIONAL_FIELDS
from tasks.core.serving.engines.vllm_command import Setup, VllmArguments
from tasks.core.serving.engines.vllm_environment import EXTRA_ARGUMENTS, vllm_python
from tasks.core.serving.engines.vllm_process import require_provable
from tasks.core.serving.proof.edit_fingerprint_match import require_fingerprint
from tasks.core.serving.proof.prompt_logprobs import PromptAnswer, ask_prompt
from tasks.core.serving.proof.readiness import EngineReport, Expectation

_ANY_PROMPT: Final = (0, 0)
"""The prompt for a plain model: any two tokens that every vocabulary has."""

_PROVER: Final = Access(key=PROVER)


class Vllm(Engine):
    """vLLM's own server, unchanged except for the gate in front of it."""

    name = "vllm"
    module = "tasks.core.serving.engines.vllm_process"
    takes = OPTIONAL_FIELDS
    embeds = False
    most_stops = 4  # OpenAI's limit
    stop_wait_s = 120.0  # a minute for the last answers (`drain_s`), 15 s to end on an idle machine
    # Its server ends its own processes, once the answers in progress have been sent.
    stops_as_group = False

    def check(self, settings: Deploy) -> None:
        """Raise RecipeError if vLLM is not installed or does not support the settings."""
        vllm_python(os.environ)
        if settings.load_8bit and settings.device == "cpu":
            raise RecipeError(
                "vLLM supports 8-bit weights on a GPU only (as fp8).",
                where="deploy.load_8bit",
                expected="load_8bit: false with device: cpu, or engine: fastchat",
                found="load_8bit: true, device: cpu",
            )

    def arguments(self, launch: Launch) -> VllmArguments:
        """Return the arguments of the process. Raises RecipeError without vLLM."""
        settings = launch.settings
        return VllmArguments(
            python=vllm_python(os.environ),
            model=launch.model.name,
            model_name=settings.model_name,
            port=launch.port,
            device=settings.device,
            gpus=settings.gpus,
            dtype=launch.dtype,
            load_8bit=settings.load_8bit,
            running=settings.gateway.max_running,
            waiting=settings.gateway.max_queued,
            drain_s=settings.drain_s,
            beside=settings.switch == "side-by-side",
            extra=os.environ.get(EXTRA_ARGUMENTS, ""),
        )

    def environment(self, launch: Launch) -> Mapping[str, str]:
        """Return that it sends no statistics, and binds itself to no core."""
        return {
            "VLLM_NO_USAGE_STATS": "1",
            "DO_NOT_TRACK": "1",
            # By default it binds itself to the first cores, so two engines would share them.
            "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        }

    def ready(self, url: str) -> None:
        """Return if it can be proven. Raises ServingFailed while it cannot.

        Not usable while draining: it still reports healthy when it no longer accepts requests.
        """
        request_text("GET", f"{url}/health", access=_PROVER)

    def prove(self, url: str, expectation: Expectation) -> EngineReport:
        """Return its setup, once it has answered like the promised model.

        Only then does its gate admit others (inside_vllm/kawan_usaha_gate.py). The first answer
        includes the warm-up. edit is the result of the comparison, since vLLM's modules are not the
        model's own.
        """
        require_provable(expectation)
        fingerprint = expectation.fingerprint if expectation.edit is not None else None
        served = _served(url)
        prompt = fingerprint.prompt_ids if fingerprint else _ANY_PROMPT
        answer = ask_prompt(url, served.id, prompt, access=_PROVER)
        setup = _setup(answer, url)
        if setup.build != expectation.build:
            raise bad_answer("It serves another build.", url, setup.build, expectation.build)
        edit: dict[str, JsonValue] | None = None
        if fingerprint is not None:
            match = require_fingerprint(
                fingerprint, answer.logprobs, dtype=setup.rounds_like, where=url
            )
            edit = {"by": "log-probabilities", "found": str(match), "verdict": match.verdict}
        request_text("POST", url + PROVEN_ROUTE, access=_PROVER)
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
    """Return the name and the context length of its model."""
    where = f"{url}/v1/models"
    try:
        return _Models.model_validate_json(request_text("GET", where, access=_PROVER)).data[0]
    except ValidationError as error:
        raise bad_answer("Another server answers there.", where, error) from error


def _setup(answer: PromptAnswer, url: str) -> Setup:
    try:
        return Setup.model_validate_json(answer.system_fingerprint or "")
    except ValidationError as error:
        found = answer.system_fingerprint
        raise bad_answer("It was not started by this project.", url, found) from error


def _resident_bytes(url: str) -> int:
    """Return the resident memory of its processes; 0 if they cannot be seen."""
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
