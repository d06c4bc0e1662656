import itertools
import math

import pytest

from tasks.core.evaluation.figures import Comparison, Figures, Outcome, Role
from tasks.core.evaluation.gate import judge
from tasks.core.recipe import Gate

OFF = Gate(max_perplexity_ratio=None)


def figures(role: Role, perplexity: float) -> Figures:
    return Figures(
        role=role,
        conversations=1,
        tokens=10,
        utf8_bytes=40,
        nll_nats=10 * math.log(perplexity),
        tokens_per_s=1.0,
        peak_memory_bytes=1,
    )


def outcome(*perplexities: tuple[Role, float], kl: float | None = None) -> Outcome:
    measured = tuple(figures(role, perplexity) for role, perplexity in perplexities)
    pairs = itertools.pairwise(measured)
    comparisons = tuple(
        Comparison(
            before=one.role, after=two.role, tokens=10, kl_divergence_nats=kl, top1_agreement=1.0
        )
        for one, two in pairs
        if kl is not None
    )
    return Outcome(figures=measured, comparisons=comparisons, answers=())


def test_rise_above_the_limit_fails_with_the_figure() -> None:
    verdict = judge(outcome(("merged", 10), ("edited", 13)), Gate(max_perplexity_ratio=1.25))
    assert not verdict.passed
    assert verdict.reasons == [
        "perplexity ratio of edited against merged: 1.3, above the limit 1.25"
    ]


def test_rise_is_taken_against_the_model_before_the_edit_not_against_the_base() -> None:
    chain = outcome(("base", 5000), ("merged", 10), ("edited", 13), ("fine-tuned", 9))
    verdict = judge(chain, Gate(max_perplexity_ratio=0.95))
    assert verdict.passed
    assert verdict.checks[0].measured == pytest.approx(0.9)


@pytest.mark.parametrize("nll", [math.nan, math.inf, 1e6])
def test_what_is_not_a_finite_number_never_passes(nll: float) -> None:
    broken = figures("edited", 10).model_copy(update={"nll_nats": nll})
    chain = Outcome(figures=(figures("merged", 10), broken), comparisons=(), answers=())
    assert not judge(chain, Gate(max_perplexity_ratio=1e300)).passed
    assert not judge(chain, Gate(max_perplexity_ratio=None, max_perplexity=1e300)).passed


def test_limit_that_cannot_be_judged_fails() -> None:
    chain = outcome(("merged", 10), ("edited", 10))
    verdict = judge(chain, OFF.model_copy(update={"max_kl_divergence": 1.0}))
    assert not verdict.passed
    assert "could not be measured" in verdict.reasons[0]


@pytest.mark.parametrize(("kl", "passed"), [(0.5, True), (1.5, False)])
def test_kl_of_the_edit_is_held_to_its_limit(kl: float, passed: bool) -> None:
    chain = outcome(("merged", 10), ("edited", 10), kl=kl)
    assert judge(chain, OFF.model_copy(update={"max_kl_divergence": 1.0})).passed is passed


def test_without_limits_everything_passes() -> None:
    assert judge(outcome(("base", 1e9)), OFF).passed
