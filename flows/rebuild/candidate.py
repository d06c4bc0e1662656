"""A model that is measured and not released yet, and the check that a flow may add to its gate."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tasks.core.evaluation.figures import EvaluationOutcome, Role
from tasks.core.evaluation.gate import GateVerdict
from tasks.core.recipe import Recipe
from tasks.core.store import Artifact
from tasks.stage_result import StageResult


@dataclass(frozen=True)
class Candidate:
    """The last model of the chain, the release that it is compared with, and its figures.

    `data` has the artifacts that were trained on besides files, by `str(source)`.
    """

    recipe: Recipe
    role: Role
    model: StageResult
    before: Artifact | None
    outcome: EvaluationOutcome
    verdict: GateVerdict
    data: Mapping[str, StageResult]


ReleaseCheck = Callable[[Candidate], None]
"""Raises GateFailed for a candidate that must not be released."""


def no_further_check(candidate: Candidate) -> None:
    """Leave the decision to the recipe's gate."""
