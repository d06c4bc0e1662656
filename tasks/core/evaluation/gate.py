"""The gate: limits of the recipe against what was measured, as a verdict with reasons.

Pure. A verdict is a value; who stops because of it is the flow's affair. The invariant: a limit
that is set and cannot be judged fails. Not a number and infinity are never within a limit.
"""

from pydantic import BaseModel, ConfigDict

from tasks.core.evaluation.figures import Comparison, Figures, Outcome
from tasks.core.recipe import Gate


class Check(BaseModel):
    """One limit and what was found."""

    model_config = ConfigDict(frozen=True)

    name: str
    limit: float
    measured: float | None
    passed: bool
    reason: str


class Verdict(BaseModel):
    """Whether the model may be published and served, and why."""

    model_config = ConfigDict(frozen=True)

    passed: bool
    checks: tuple[Check, ...]

    @property
    def reasons(self) -> list[str]:
        """Return what failed; all checks when nothing did."""
        failed = [check.reason for check in self.checks if not check.passed]
        return failed or [check.reason for check in self.checks]


def judge(outcome: Outcome, gate: Gate) -> Verdict:
    """Return the verdict over the last model of the chain.

    The rise in perplexity is taken against the model that edit and fine-tuning began with (merged,
    or base where nothing was merged). The KL divergence is that of the edit, where there is one.
    """
    released, reference = outcome.figures[-1], _reference(outcome)
    checks = []
    if gate.max_perplexity is not None:
        checks.append(
            _check("perplexity", gate.max_perplexity, released.perplexity, f"of {released.role}")
        )
    if gate.max_perplexity_ratio is not None:
        words = f"of {released.role} against {reference.role}"
        ratio = released.perplexity / reference.perplexity
        checks.append(_check("perplexity ratio", gate.max_perplexity_ratio, ratio, words))
    if gate.max_kl_divergence is not None and outcome.of("edited") is not None:
        edit = _edit(outcome)
        kl = None if edit is None else edit.kl_divergence_nats
        words = "of edited against the model before it"
        checks.append(_check("KL divergence", gate.max_kl_divergence, kl, words))
    return Verdict(passed=all(check.passed for check in checks), checks=tuple(checks))


def _reference(outcome: Outcome) -> Figures:
    return outcome.of("merged") or outcome.figures[0]


def _edit(outcome: Outcome) -> Comparison | None:
    return next((c for c in outcome.comparisons if c.after == "edited"), None)


def _check(name: str, limit: float, measured: float | None, words: str) -> Check:
    if measured is None:
        return Check(
            name=name,
            limit=limit,
            measured=None,
            passed=False,
            reason=f"{name} {words}: could not be measured; the limit is {limit:g}",
        )
    passed = measured <= limit  # False for not a number
    side = "within" if passed else "above"
    return Check(
        name=name,
        limit=limit,
        measured=measured,
        passed=passed,
        reason=f"{name} {words}: {measured:.4g}, {side} the limit {limit:g}",
    )
