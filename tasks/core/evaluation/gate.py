"""The gate: limits of the recipe against what was measured, as a verdict with reasons.

Pure. A verdict is a value; the flow decides what to do with it. The invariant: a limit on what is
in the chain and cannot be judged fails. Not a number and infinity are never within a limit.
"""

import math
from typing import Literal

from pydantic import BaseModel, ConfigDict

from tasks.core.evaluation.figures import Figures, Outcome, Role, compared_roles
from tasks.core.evaluation.numbers import measured as shown
from tasks.core.recipe import Gate


class Check(BaseModel):
    """One limit and what was found. `applies` is False where the chain has no such stage."""

    model_config = ConfigDict(frozen=True, ser_json_inf_nan="constants")

    name: str
    bound: Literal["at most", "at least"]
    limit: float
    measured: float | None
    passed: bool
    applies: bool = True
    reason: str


class Verdict(BaseModel):
    """Whether the model may be published and served, and why.

    `forced` is the reason of the person who releases the model although a check failed.
    """

    model_config = ConfigDict(frozen=True)

    passed: bool
    checks: tuple[Check, ...]
    forced: str | None = None

    @property
    def allows_release(self) -> bool:
        """Whether the model may be published and served, on its own merit or by force."""
        return self.passed or self.forced is not None

    @property
    def reasons(self) -> list[str]:
        """Return what failed; all checks when nothing did."""
        failed = [check.reason for check in self.checks if not check.passed]
        return failed or [check.reason for check in self.checks]


def judge(outcome: Outcome, gate: Gate, *, override: str | None = None) -> Verdict:
    """Return the verdict over the last model of the chain.

    `override` is the reason for which a model that fails is released all the same. It is dropped
    when nothing fails; one of spaces alone is none.
    """
    found = (
        _perplexity(outcome, gate.max_perplexity),
        _rise(outcome, gate.max_perplexity_ratio),
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
    return Verdict(passed=passed, checks=checks, forced=None if passed else reason)


def _perplexity(outcome: Outcome, limit: float | None) -> Check | None:
    if limit is None:
        return None
    released = outcome.figures[-1]
    return _check(f"perplexity of {released.role}", limit, released.perplexity)


def _rise(outcome: Outcome, limit: float | None) -> Check | None:
    """Check against the model that edit and fine-tuning began with: merged, or the first one."""
    if limit is None:
        return None
    released = outcome.figures[-1]
    reference = outcome.of("merged") or outcome.of("base") or outcome.figures[0]
    if released is reference:
        why = f"it would hold {released.role} against itself"
        return _idle("perplexity ratio to the model before edit and fine-tuning", limit, why)
    return _ratio_check(released, reference, limit)


def _edit(outcome: Outcome, limit: float | None) -> Check | None:
    if limit is None:
        return None
    edited = outcome.of("edited")
    if edited is None:
        return _idle("KL divergence of the edit", limit, "nothing is edited")
    before = _before(outcome, "edited")
    found = None if before is None else outcome.between(before.role, "edited")
    kl = None if found is None else found.kl_divergence_nats
    return _check("KL divergence of edited from the model before it", limit, kl)


def _gain(outcome: Outcome, limit: float | None) -> Check | None:
    if limit is None:
        return None
    tuned = outcome.of("fine-tuned")
    if tuned is None:
        return _idle("gain of the fine-tune", limit, "nothing is fine-tuned", "at least")
    before = _before(outcome, "fine-tuned")
    gain = None if before is None else 1.0 - _ratio(tuned, before)
    return _check("gain of fine-tuned over the model before it", limit, gain, "at least")


def _release(outcome: Outcome, limit: float | None) -> Check | None:
    if limit is None:
        return None
    released, earlier = outcome.figures[-1], outcome.of("release before")
    if earlier is None:
        return _idle("perplexity ratio to the release before", limit, "there is no other release")
    return _ratio_check(released, earlier, limit)


def _merge(outcome: Outcome, limit: float | None) -> Check | None:
    """Check the merged model against its base.

    A merged model that is better than its base is always within the limit, also where the base
    talks such nonsense that its perplexity is infinite.
    """
    if limit is None:
        return None
    merged, base = outcome.of("merged"), outcome.of("base")
    if merged is None or base is None:
        return _idle("perplexity ratio of merged to base", limit, "no delta is merged")
    return _ratio_check(merged, base, limit, merged.perplexity_ratio_to(base))


def _judged(outcome: Outcome, limit: float | None) -> Check | None:
    """Check what the judge prefers; it does not apply where there is nothing to compare with.

    What it has not judged speaks for nobody: too little of it fails.
    """
    if limit is None:
        return None
    if compared_roles(outcome) is None:
        name = "share of the answers that the judge prefers"
        return _idle(name, limit, "there is no other release", "at least")
    found = outcome.judgement
    name = "share of the answers that the judge prefers to those of the release before"
    if found is None:
        return _check(name, limit, None, "at least")
    if found.judged < found.wanted:
        name += f" ({found.judged} of {found.wanted} pairs judged)"
    return _check(name, limit, found.sure_win_rate, "at least")


def _unseen(outcome: Outcome) -> Check | None:
    """Fail where all that the model is measured with was in its training data: it proves nothing.

    A part of it is a warning of the report, and no check.
    """
    leaks = outcome.leaks
    if leaks is None or not leaks.whole:
        return None
    return _check("held-out conversations that are not in the training data", 1, 0, "at least")


def _before(outcome: Outcome, role: Role) -> Figures | None:
    """Return the figures of the model that the stage with this role began with."""
    models = [figures for figures in outcome.figures if figures.role != "release before"]
    place = next(i for i, figures in enumerate(models) if figures.role == role)
    return models[place - 1] if place else None


def _ratio(after: Figures, before: Figures) -> float:
    """Return the ratio of two perplexities; NaN where nothing can be held against the one before.

    That is where it is infinite: anything would be better.
    """
    return after.perplexity_ratio_to(before) if math.isfinite(before.perplexity) else math.nan


def _ratio_check(
    after: Figures, before: Figures, limit: float, ratio: float | None = None
) -> Check:
    """Return the check of a ratio, by default the one of `_ratio`."""
    before_it = "the release before" if before.role == "release before" else before.role
    name = f"perplexity ratio of {after.role} to {before_it}"
    if after.tokens != before.tokens and not after.has_tokenizer_of(before):
        name += f", by the byte ({before.utf8_bytes / before.tokens:.2f} bytes a token)"
    return _check(name, limit, _ratio(after, before) if ratio is None else ratio)


def _check(
    name: str,
    limit: float,
    measured: float | None,
    bound: Literal["at most", "at least"] = "at most",
) -> Check:
    words = f"the limit is {bound} {limit:g}"
    if measured is None or math.isnan(measured):
        measured = None
        passed, reason = False, f"{name}: could not be measured; {words}"
    else:
        kept = measured <= limit if bound == "at most" else measured >= limit
        passed = math.isfinite(measured) and kept
        side = "within" if passed else "below" if bound == "at least" else "above"
        reason = f"{name}: {shown(measured)}, {side} the limit {limit:g}"
    return Check(
        name=name, bound=bound, limit=limit, measured=measured, passed=passed, reason=reason
    )


def _idle(
    name: str, limit: float, why: str, bound: Literal["at most", "at least"] = "at most"
) -> Check:
    """Return the check of a limit on what the chain does not have."""
    return Check(
        name=name,
        bound=bound,
        limit=limit,
        measured=None,
        passed=True,
        applies=False,
        reason=f"{name}: does not apply, {why}",
    )
