"""What an engine must prove before it gets traffic, and what it reports about itself.

Both pass between the deployment and the engine's process as JSON: `Expectation` as a file that the
process reads, `EngineReport` as the answer of its own route. Pure: nothing here knows how a model
is loaded.
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
"""The exit code of an engine that refuses to serve (EX_CONFIG of sysexits.h): do not restart it."""
REFUSAL_FILE: Final = "refusal.json"
"""Written beside the expectation when the engine refuses; holds the reason."""


class Expectation(BaseModel):
    """What the deployment was promised about the model."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    build: str
    template: str
    edit: dict[str, JsonValue] | None = Field(
        description="What the model's own kawan_usaha_report() must contain; None: no edit."
    )
    fingerprint: EditFingerprint | None = Field(
        None, description="What the log-probabilities must be close to; None without one."
    )


class EngineReport(BaseModel):
    """The report of a running engine, read from the loaded model and not from any file."""

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
            "The engine uses another conversation template.",
            expected=expectation.template,
            found=report.template,
            next_step="This is a fault of the deployment; please report it.",
        )
    if expectation.edit is None:
        return
    if report.edit is None:
        raise EditLost(
            "The loaded model reports no edit, but it was built with one.",
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
    """Read the expectation that a deployment wrote to path. Raises ServingFailed without one."""
    try:
        return Expectation.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise ServingFailed(
            "The engine was started without a readable expectation.",
            where=path,
            found=error,
            next_step="Start it through `kawan-usaha deploy`.",
        ) from error


def refusal_json(error: KawanUsahaError) -> str:
    """Serialize an error for `refusal_from`."""
    return json.dumps(error.as_dict())


def refusal_from(text: str) -> KawanUsahaError:
    """Return the error that an engine gave as its reason not to serve."""
    told = error_in(f'{{"error": {text}}}')
    if isinstance(told, EditLost | ServingFailed):
        return told
    return ServingFailed(
        "The engine refused to serve, and its reason cannot be read.",
        found=text[:500],
        next_step="Its log says more.",
    )


def _compact(value: Mapping[str, JsonValue]) -> str:
    return json.dumps(value, sort_keys=True)
