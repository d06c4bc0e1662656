"""The gate: the recipe's limits applied to what was measured, giving a verdict with reasons.

Pure. A verdict is a value; the flow decides what to do with it. The invariant: a limit that applies
to the chain but cannot be evaluated fails. NaN and infinity never meet a limit.
"""

import math
from typing import Literal

from pydantic import BaseModel, ConfigDict

from tasks.core.evaluation.figures import EvaluationOutcome, Figures, Role, compared_roles
from tasks.core.evaluation.numbers import four_digits
from tasks.core.recipe import Gate


class GateCheck(BaseModel):
    """One limit and what was measured. `applies` is False where the chain has no such stage."""

    model_config = ConfigDict(frozen=True, ser_json_inf_nan="constants")

    name: str
    bound: Literal["at most", "at least"]
    limit: float
    measured: float | None
    passed: bool
    applies: bool = True
    reason: str


class GateVerdict(BaseModel):
    """Whether the model may be published and served, and why.

    `forced` is the reason given by a person who releases the model although a check failed.
    """

    model_config = ConfigDict(frozen=True)

    passed: bool
    checks: tuple[GateCheck, ...]
    forced: str | None = None

    @property
    def allows_release(self) -> bool:
        """Whether the model may be published and served, by passing or by force."""
        return self.passed or self.forced is not None

    @property
    def reasons(self) -> list[str]:
        """Return the reasons of the failed checks; of all checks when none failed."""
        failed = [check.reason for check in self.checks if not check.passed]
        return failed or [check.reason for check in self.checks]


def apply_gate(
    outcome: EvaluationOutcome, gate: Gate, *, override: str | None = None
) -> GateVerdict:
    """Return the verdict over the last model of the chain.

    `override` is the reason for releasing a model that fails. It is ignored when nothing fails, and
    when it is blank.
    """
    found = (
        _perplexity(outcome, gate.max_perplexity),
        _ratio_to_start(outcome, gate.max_perplexity_ratio),
        _edit(outcome, gate.max_kl_divergence),
        _gain(outcome, gate.min_finetune_gain),
        _release(outcome, gate.max_ratio_to_release),
        _merge(outcome, gate.max_merge_ratio),
        _judged(outcome, gate.min_judge_win_rate),
        _unseen(outcome),
    )
    checks = tuple(check for check in found if check is not None)
    passed = all(check.passed for check in checks)
    reason = (override or "").strip() or None
    return GateVerdict(passed=passed, checks=checks, forced=None if passed else reason)


def _perplexity(outcome: EvaluationOutcome, limit: float | None) -> GateCheck | None:
    if limit is None:
        return None
    released = outcome.figures[-1]
    return _check(f"perplexity of {released.role}", limit, released.perplexity)


def _ratio_to_start(outcome: EvaluationOutcome, limit: float | None) -> GateCheck | None:
    """Check against the model before edit and fine-tuning: the merged one, or the first."""
    if limit is None:
        return None
    released = outcome.figures[-1]
    reference = outcome.of("merged") or outcome.of("base") or outcome.figures[0]
    if released is reference:
        why = f"it would compare {released.role} with itself"
        return _not_applicable(
            "perplexity ratio to the model before edit and fine-tuning", limit, why
        )
    return _ratio_check(released, reference, limit)


def _edit(outcome: EvaluationOutcome, limit: float | None) -> GateCheck | None:
    if limit is None:
        return None
    edited = outcome.of("edited")
    if edited is None:
        return _not_applicable("KL divergence of the edit", limit, "nothing is edited")
    before = _before(outcome, "edited")
    found = None if before is None else outcome.between(before.role, "edited")
    kl = None if found is None else found.kl_divergence_nats
    return _check("KL divergence of edited from the model before it", limit, kl)


def _gain(outcome: EvaluationOutcome, limit: float | None) -> GateCheck | None:
    if limit is None:
        return None
    tuned = outcome.of("fine-tuned")
    if tuned is None:
        return _not_applicable("gain of the fine-tune", limit, "nothing is fine-tuned", "at least")
    before = _before(outcome, "fine-tuned")
    gain = None if before is None else 1.0 - _ratio(tuned, before)
    return _check("gain of fine-tuned over the model before it", limit, gain, "at least")


def _release(outcome: EvaluationOutcome, limit: float | None) -> GateCheck | None:
    if limit is None:
        return None
    released, earlier = outcome.figures[-1], outcome.of("release before")
    if earlier is None:
        return _not_applicable(
            "perplexity ratio to the release before", limit, "there is no earlier release"
        )
    return _ratio_check(released, earlier, limit)


def _merge(outcome: EvaluationOutcome, limit: float | None) -> GateCheck | None:
    """Check the merged model against its base.

    A merged model that is better than its base always passes, also where the base is so bad that
    its perplexity is infinite.
    """
    if limit is None:
        return None
    merged, base = outcome.of("merged"), outcome.of("base")
    if merged is None or base is None:
        return _not_applicable("perplexity ratio of merged to base", limit, "no delta is merged")
    return _ratio_check(merged, base, limit, merged.perplexity_ratio_to(base))


def _judged(outcome: EvaluationOutcome, limit: float | None) -> GateCheck | None:
    """Check the judge's preferences; does not apply where there is nothing to compare with.

    Pairs without a verdict count for neither side; with too few verdicts the check fails.
    """
    if limit is None:
        return None
    if compared_roles(outcome) is None:
        name = "share of answers preferred by the judge"
        return _not_applicable(name, limit, "there is no earlier release", "at least")
    found = outcome.judgement
    name = "share of answers preferred by the judge over those of the release before"
    if found is None:
        return _check(name, limit, None, "at least")
    if found.judged < found.wanted:
        name += f" ({found.judged} of {found.wanted} pairs judged)"
    return _check(name, limit, found.sure_win_rate, "at least")


def _unseen(outcome: EvaluationOutcome) -> GateCheck | None:
    """Fail where all held-out conversations were in the training data: figures prove nothing.

    If only some were, the report warns and there is no check.
    """
    leaks = outcome.leaks
    if leaks is None or not leaks.whole:
        return None
    return _check("held-out conversations that are not in the training data", 1, 0, "at least")


def _before(outcome: EvaluationOutcome, role: Role) -> Figures | None:
    """Return the figures of the model that the stage with this role started from."""
    models = [figures for figures in outcome.figures if figures.role != "release before"]
    place = next(i for i, figures in enumerate(models) if figures.role == role)
    return models[place - 1] if place else None


def _ratio(after: Figures, before: Figures) -> float:
    """Return the ratio of two perplexities; NaN where the earlier one is infinite.

    Any model would be better than that one.
    """
    return after.perplexity_ratio_to(before) if math.isfinite(before.perplexity) else math.nan


def _ratio_check(
    after: Figures, before: Figures, limit: float, ratio: float | None = None
) -> GateCheck:
    """Return the check of a perplexity ratio, by default that of `_ratio`."""
    earlier = "the release before" if before.role == "release before" else before.role
    name = f"perplexity ratio of {after.role} to {earlier}"
    if after.tokens != before.tokens and not after.has_tokenizer_of(before):
        name += f", per byte ({before.utf8_bytes / before.tokens:.2f} bytes per token)"
    return _check(name, limit, _ratio(after, before) if ratio is None else ratio)


def _check(
    name: str,
    limit: float,
    measured: float | None,
    bound: Literal["at most", "at least"] = "at most",
) -> GateCheck:
    words = f"the limit is {bound} {limit:g}"
    if measured is None or math.isnan(measured):
        measured = None
        passed, reason = False, f"{name}: could not be measured; {words}"
    else:
        kept = measured <= limit if bound == "at most" else measured >= limit
        passed = math.isfinite(measured) and kept
        side = "within" if passed else "below" if bound == "at least" else "above"
        reason = f"{name}: {four_digits(measured)}, {side} the limit {limit:g}"
    return GateCheck(
        name=name, bound=bound, limit=limit, measured=measured, passed=passed, reason=reason
    )


def _not_applicable(
    name: str, limit: float, why: str, bound: Literal["at most", "at least"] = "at most"
) -> GateCheck:
    """Return the check of a limit that does not apply to this chain."""
    return GateCheck(
        name=name,
        bound=bound,
        limit=limit,
        measured=None,
        passed=True,
        applies=False,
        reason=f"{name}: does not apply, {why}",
    )
