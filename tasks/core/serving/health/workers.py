"""Workers: deployments on other machines that answer behind this one's gateway.

Each has proven its edit in its own engine before it got traffic. Here it is checked whether it
accepts this gateway's key, serves the same build, and answers as only the edited model does. The
invariant: no machine with another build answers, because the gateway names the build with each
request, since a worker may be switched to another one at any time.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tasks.core.errors import KawanUsahaError, ServingFailed, UsageError
from tasks.core.model.edit_fingerprint import read_fingerprint
from tasks.core.recipe.deploy import EngineName, Worker
from tasks.core.serving.client.access import Access
from tasks.core.serving.client.request import KeyRefused, request_text
from tasks.core.serving.client.worker_access import read_access
from tasks.core.serving.engines.registry import engine_of
from tasks.core.serving.proof.edit_fingerprint_match import require_fingerprint
from tasks.core.serving.proof.prompt_logprobs import ask_prompt
from tasks.core.serving.state.record import Deployment

_WITHIN_S = 30.0
_LOOK_S = 10.0
_ROUNDS_LIKE = "int8"
"""A worker may compute in another type: 16 bits here, 8 bits there."""


class _Model(BaseModel):
    model_config = ConfigDict(extra="ignore")

    id: str
    build: str
    template: str
    engine: EngineName


class _Models(BaseModel):
    model_config = ConfigDict(extra="ignore")

    data: list[_Model] = Field(min_length=1)


@dataclass(frozen=True)
class WorkerStatus:
    """The status of a worker; problem is None if it can answer for this deployment."""

    name: str
    url: str
    problem: str | None


def access_to(deployment: Deployment, environ: Mapping[str, str] = os.environ) -> dict[str, Access]:
    """Return the keys and certificates of workers whose key is set, by URL.

    Raises UsageError for an invalid certificate.
    """
    return {
        worker.url: Access(key=key, certificate=_certificate(worker))
        for worker in deployment.settings.workers
        if (key := environ.get(worker.token_variable))
    }


def require_worker(
    deployment: Deployment,
    worker: Worker,
    access: Mapping[str, Access],
    *,
    timeout_s: float = _WITHIN_S,
) -> None:
    """Return if a worker accepts our key and serves this deployment's build under its name.

    Raises UsageError without its key, ServingFailed when it does not accept the key, does not
    answer, or serves something else.
    """
    known = access.get(worker.url)
    if known is None:
        raise UsageError(
            f"The key of the worker {worker.name} is not set.",
            where=worker.token_variable,
            next_step="Export it where the model is deployed; it is among that machine's keys.",
        )
    served = _served_by(worker, known, timeout_s)
    expected = {
        "name": (deployment.settings.model_name, served.id),
        "build": (deployment.build, served.build),
        "template": (deployment.template, served.template),
    }
    wrong = {what: pair for what, pair in expected.items() if pair[0] != pair[1]}
    if wrong:
        raise ServingFailed(
            f"The worker {worker.name} serves another model.",
            where=worker.url,
            expected=", ".join(f"{what} {ours}" for what, (ours, _) in wrong.items()),
            found=", ".join(f"{what} {theirs}" for what, (_, theirs) in wrong.items()),
            next_step="Deploy the same model there first, then here.",
        )
    _require_abilities(deployment, worker, served.engine)


def require_workers(deployment: Deployment, access: Mapping[str, Access]) -> None:
    """Return if every worker can answer for a deployment.

    Raises as `require_worker`, and EditLost for one that does not answer like the edited model.
    """
    for worker in deployment.settings.workers:
        require_worker(deployment, worker, access)
        _require_edit(deployment, worker, access[worker.url])


def look_at_workers(deployment: Deployment, keys: Path) -> tuple[WorkerStatus, ...]:
    """Return the status of each worker. keys is the file with the access to them."""
    if not deployment.settings.workers:
        return ()
    try:
        access = read_access(keys)
    except ServingFailed:
        access = {}
    return tuple(
        WorkerStatus(
            worker.name,
            worker.url,
            _problem(partial(require_worker, deployment, worker, access, timeout_s=_LOOK_S)),
        )
        for worker in deployment.settings.workers
    )


def _problem(require: "partial[None]") -> str | None:
    try:
        require()
    except KawanUsahaError as error:
        return " ".join(str(part) for part in (error.what, error.found) if part)
    return None


def _served_by(worker: Worker, access: Access, timeout_s: float) -> _Model:
    where = f"{worker.url}/v1/models"
    try:
        text = request_text("GET", where, access=access, timeout_s=timeout_s)
        return _Models.model_validate_json(text).data[0]
    except KeyRefused as error:
        raise KeyRefused(
            f"The worker {worker.name} does not accept the key.",
            where=where,
            expected=f"one of that machine's keys in {worker.token_variable}",
            found=error.found,
            next_step="Put the key among those of the deployment there (docs/gateway.md), and "
            "export the same one here.",
        ) from error
    except (ServingFailed, ValidationError) as error:
        raise ServingFailed(
            f"The worker {worker.name} does not answer.",
            where=where,
            found=str(error.found if isinstance(error, ServingFailed) else error).splitlines()[0],
            next_step="`kawan-usaha status` on that machine tells what runs there.",
        ) from error


def _require_abilities(deployment: Deployment, worker: Worker, name: EngineName) -> None:
    """Raise ServingFailed for an engine that lacks something that the local one supports."""
    here, there = engine_of(deployment.settings.engine), engine_of(name)
    lacking = sorted(here.takes - there.takes)
    lacking += ["embeddings"] if here.embeds and not there.embeds else []
    if there.most_stops is not None and here.most_stops is None:
        lacking.append(f"more than {there.most_stops} texts as `stop`")
    if lacking:
        raise ServingFailed(
            f"The engine of the worker {worker.name} supports less than the local one.",
            where=worker.url,
            expected=f"{here.name}, or another that supports {', '.join(lacking)}",
            found=there.name,
            next_step="Deploy with the same `engine` on both machines.",
        )


def _require_edit(deployment: Deployment, worker: Worker, access: Access) -> None:
    """Check that a worker answers like the edited model, if its engine can show it."""
    fingerprint = read_fingerprint(deployment.model) if deployment.expected_edit else None
    if fingerprint is None or "prompt_logprobs" not in engine_of(deployment.settings.engine).takes:
        return
    name = deployment.settings.model_name
    answer = ask_prompt(worker.url, name, fingerprint.prompt_ids, access=access)
    require_fingerprint(fingerprint, answer.logprobs, dtype=_ROUNDS_LIKE, where=worker.url)


def _certificate(worker: Worker) -> str | None:
    if worker.ca_file is None:
        return None
    try:
        pem = worker.ca_file.read_text()
        Access(key="", certificate=pem)
    except (OSError, UnicodeDecodeError, ValidationError) as error:
        raise UsageError(
            f"The certificate of the worker {worker.name} cannot be used.",
            where=worker.ca_file,
            expected="a file with certificates in PEM",
            found=str(error).splitlines()[0],
            next_step="Copy the public part from that machine; its private key stays there.",
        ) from error
    return pem
