"""Deployments on other machines that answer behind this one's gateway.

Each has proven its own edit before it took traffic; here it is asked whether it serves the very
build. The invariant: nothing is routed to a machine that serves another one.
"""

import os

import httpx
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tasks.core.errors import ServingFailed, UsageError
from tasks.core.recipe_deploy import Worker
from tasks.core.serving.record import Deployment

_WITHIN_S = 30.0


class _Model(BaseModel):
    model_config = ConfigDict(extra="ignore")

    id: str
    build: str


class _Models(BaseModel):
    model_config = ConfigDict(extra="ignore")

    data: list[_Model] = Field(min_length=1)


def require_workers(deployment: Deployment) -> None:
    """Return when every worker serves this deployment's build under its name.

    Raises UsageError without a worker's key, ServingFailed when one does not answer or serves
    something else.
    """
    for worker in deployment.settings.workers:
        served = _served_by(worker)
        wanted = (deployment.settings.model_name, deployment.build)
        if (served.id, served.build) != wanted:
            raise ServingFailed(
                f"The worker {worker.name} serves another model.",
                where=worker.url,
                expected=f"{wanted[0]}, build {wanted[1]}",
                found=f"{served.id}, build {served.build}",
                next_step="Deploy the model there first, then here.",
            )


def _served_by(worker: Worker) -> _Model:
    key = os.environ.get(worker.token_variable)
    if not key:
        raise UsageError(
            f"The key of the worker {worker.name} is not set.",
            where=worker.token_variable,
            next_step="Export it where the model is deployed; it stands in that machine's keys.",
        )
    where = f"{worker.url}/v1/models"
    try:
        headers = {"Authorization": f"Bearer {key}"}
        response = httpx.get(where, headers=headers, timeout=_WITHIN_S)
        response.raise_for_status()
        return _Models.model_validate_json(response.content).data[0]
    except (httpx.HTTPError, ValidationError) as error:
        raise ServingFailed(
            f"The worker {worker.name} does not answer.",
            where=where,
            found=str(error).splitlines()[0],
            next_step="`kawan-usaha status` on that machine tells what runs there.",
        ) from error
