"""What a worker must show before it takes traffic, and what it shows when it is asked.

The two models travel between the deployment and the worker process as JSON: `Expectation` as a
file that the worker reads, `EngineReport` as the answer of its own route. Pure: nothing here knows
how a model is loaded.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from tasks.core.errors import EditLost, KawanUsahaError, ServingFailed
from tasks.core.model.edit_fingerprint import EditFingerprint
from tasks.core.process.answer_file import error_in

REPORT_ROUTE: Final = "/kawan_usaha/report"
EXPECTATION_VARIABLE: Final = "KAWAN_USAHA_EXPECTATION"
REFUSED: Final = 78
"""The worker's exit code when it refuses to serve (EX_CONFIG of sysexits.h): no use to restart."""
REFUSAL_FILE: Final = "refusal.json"
"""Stands beside the expectation when the worker refused, and holds the reason."""


class Expectation(BaseModel):
    """What the deployment was promised about the model that it serves."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    build: str
    template: str
    edit: dict[str, JsonValue] | None = Field(
        description="Parts that the model's own kawan_usaha_report() must equal; None: no edit."
    )
    fingerprint: EditFingerprint | None = Field(
        None, description="What the log-probabilities must be near; None where there is none."
    )


class EngineReport(BaseModel):
    """A running worker about itself, read from the loaded model and not from any file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    build: str
    template: str
    model_class: str
    device: str
    dtype: str
    context_length_tokens: int
    resident_bytes: int
    device_bytes: int = Field(description="Allocated on the accelerators; 0 without one.")
    edit: dict[str, JsonValue] | None = Field(
        description="What kawan_usaha_report() of the loaded model returns; None without one."
    )


def require_as_expected(expectation: Expectation, report: EngineReport) -> None:
    """Raise EditLost or ServingFailed unless the loaded model is the promised one."""
    if report.template != expectation.template:
        raise ServingFailed(
            "The worker talks with another conversation template.",
            expected=expectation.template,
            found=report.template,
            next_step="This is a fault of the deployment; please report it.",
        )
    if expectation.edit is None:
        return
    if report.edit is None:
        raise EditLost(
            "The loaded model knows of no edit, but it was built with one.",
            where=report.model_class,
            expected=_compact(expectation.edit),
            found="no kawan_usaha_report()",
            next_step=_REBUILD,
        )
    found = {name: report.edit.get(name) for name in expectation.edit}
    if found != expectation.edit:
        raise EditLost(
            "The loaded model does not show the edit that it was built with.",
            where=report.model_class,
            expected=_compact(expectation.edit),
            found=_compact(found),
            next_step=_REBUILD,
        )


_REBUILD = (
    "Build the model again (`kawan-usaha edit`), and compare with `kawan-usaha inspect MODEL`."
)


def read_expectation(path: Path) -> Expectation:
    """Return the expectation that a deployment left at path; ServingFailed when there is none."""
    try:
        return Expectation.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise ServingFailed(
            "The worker was started without a readable expectation.",
            where=path,
            found=error,
            next_step="Start it through `kawan-usaha deploy`.",
        ) from error


def refusal_json(error: KawanUsahaError) -> str:
    """Return error as the text that `refusal_from` turns back into an error."""
    return json.dumps(error.as_dict())


def refusal_from(text: str) -> KawanUsahaError:
    """Return the error that a worker gave as its reason not to serve."""
    told = error_in(f'{{"error": {text}}}')
    if isinstance(told, EditLost | ServingFailed):
        return told
    return ServingFailed(
        "The worker refused to serve, and why cannot be read.",
        found=text[:500],
        next_step="Its log says more.",
    )


def _compact(value: Mapping[str, JsonValue]) -> str:
    return json.dumps(value, sort_keys=True)
