"""A model that is measured and not released yet, for whoever wants more proof than the gate's."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tasks.core.evaluation.figures import EvaluationOutcome, Role
from tasks.core.evaluation.gate import GateVerdict
from tasks.core.recipe import Recipe
from tasks.core.store import Artifact
from tasks.runtime import StageResult


@dataclass(frozen=True)
class Candidate:
    """The last model of the chain, the release that it is held against, and what was measured.

    `data` are the artifacts that the training had besides its files, by `str(source)`.
    """

    recipe: Recipe
    role: Role
    model: StageResult
    before: Artifact | None
    outcome: EvaluationOutcome
    verdict: GateVerdict
    data: Mapping[str, StageResult]


Proof = Callable[[Candidate], None]
"""Raises GateFailed for a candidate that must not be released."""


def unproven(candidate: Candidate) -> None:
    """Ask for no more proof than the recipe's gate does."""
