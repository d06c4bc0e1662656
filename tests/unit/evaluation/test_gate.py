import itertools
import math

import pytest

from tasks.core.conversation.checking.leaks import Leaks
from tasks.core.evaluation.figures import (
    Comparison,
    EvaluationOutcome,
    Figures,
    HeldOut,
    Role,
)
from tasks.core.evaluation.gate import apply_gate
from tasks.core.evaluation.judgement import JudgedPair, PairwiseJudgement, Winner
from tasks.core.recipe import Gate

OFF = Gate(max_perplexity_ratio=None)


def figures(
    role: Role, perplexity: float, tokens: int = 10, tokenizer: str | None = "one"
) -> Figures:
    return Figures(
        role=role,
        conversations=1,
        tokens=tokens,
        utf8_bytes=40,
        nll_nats=tokens * math.log(perplexity),
        dtype="float32",
        tokens_per_s=1.0,
        peak_memory_bytes=1,
        tokenizer_digest=tokenizer,
    )


def outcome(*perplexities: tuple[Role, float], kl: float | None = None) -> EvaluationOutcome:
    measured = tuple(figures(role, perplexity) for role, perplexity in perplexities)
    pairs = itertools.pairwise(measured)
    comparisons = tuple(
        Comparison(
            before=one.role, after=two.role, tokens=10, kl_divergence_nats=kl, top1_agreement=1.0
        )
        for one, two in pairs
        if kl is not None
    )
    return EvaluationOutcome(figures=measured, comparisons=comparisons, answers=())


def test_rise_above_the_limit_fails_with_the_figure() -> None:
    verdict = apply_gate(outcome(("merged", 10), ("edited", 13)), Gate(max_perplexity_ratio=1.25))
    assert not verdict.passed
    assert verdict.reasons == ["perplexity ratio of edited to merged: 1.3, above the limit 1.25"]


def test_rise_is_taken_against_the_model_before_the_edit_not_against_the_base() -> None:
    chain = outcome(("base", 5000), ("merged", 10), ("edited", 13), ("fine-tuned", 9))
    verdict = apply_gate(chain, Gate(max_perplexity_ratio=0.95))
    assert verdict.passed
    assert verdict.checks[0].measured == pytest.approx(0.9)


def test_rise_of_a_chain_without_a_base_is_taken_against_its_first_model() -> None:
    verdict = apply_gate(outcome(("model", 10), ("edited", 13)), Gate(max_perplexity_ratio=1.25))
    assert verdict.reasons == ["perplexity ratio of edited to model: 1.3, above the limit 1.25"]


@pytest.mark.parametrize("nll", [math.nan, math.inf, 1e6])
def test_what_is_not_a_finite_number_never_passes(nll: float) -> None:
    broken = figures("edited", 10).model_copy(update={"nll_nats": nll})
    chain = EvaluationOutcome(figures=(figures("merged", 10), broken), comparisons=(), answers=())
    assert not apply_gate(chain, Gate(max_perplexity_ratio=1e300)).passed
    assert not apply_gate(chain, Gate(max_perplexity_ratio=None, max_perplexity=1e300)).passed


def test_limit_that_cannot_be_judged_fails() -> None:
    chain = outcome(("merged", 10), ("edited", 10))
    verdict = apply_gate(chain, OFF.model_copy(update={"max_kl_divergence": 1.0}))
    assert not verdict.passed
    assert "could not be measured" in verdict.reasons[0]


@pytest.mark.parametrize(("kl", "passed"), [(0.5, True), (1.0, True), (1.5, False)])
def test_kl_of_the_edit_is_held_to_its_limit(kl: float, passed: bool) -> None:
    chain = outcome(("merged", 10), ("edited", 10), kl=kl)
    assert apply_gate(chain, OFF.model_copy(update={"max_kl_divergence": 1.0})).passed is passed


def test_infinitely_bad_model_before_makes_no_other_one_good() -> None:
    broken = figures("merged", 10).model_copy(update={"nll_nats": math.inf})
    chain = EvaluationOutcome(figures=(broken, figures("edited", 1e9)), comparisons=(), answers=())
    assert not apply_gate(chain, Gate(max_perplexity_ratio=1.25)).passed


@pytest.mark.parametrize(("tuned", "passed"), [(9.5, True), (9.95, False), (12, False)])
def test_finetune_has_to_gain_what_the_limit_says(tuned: float, passed: bool) -> None:
    chain = outcome(("merged", 20), ("edited", 10), ("fine-tuned", tuned))
    verdict = apply_gate(chain, OFF.model_copy(update={"min_finetune_gain": 0.02}))
    assert verdict.passed is passed
    assert verdict.checks[0].measured == pytest.approx(1 - tuned / 10)
    assert passed or "below the limit 0.02" in verdict.reasons[0]


@pytest.mark.parametrize(("released", "passed"), [(10, True), (10.4, True), (11, False)])
def test_release_is_held_to_the_one_before_it(released: float, passed: bool) -> None:
    chain = outcome(("release before", 10), ("base", 5000), ("edited", released))
    verdict = apply_gate(chain, OFF.model_copy(update={"max_ratio_to_release": 1.05}))
    assert verdict.passed is passed


def test_release_before_takes_no_part_in_the_rise() -> None:
    chain = outcome(("release before", 2), ("base", 10), ("edited", 11))
    assert apply_gate(chain, Gate(max_perplexity_ratio=1.25)).passed


def test_models_with_other_tokenizers_are_compared_by_the_byte() -> None:
    other = figures("edited", 10, tokenizer="other")
    other = other.model_copy(update={"tokens": 20, "nll_nats": 10 * math.log(10)})
    chain = EvaluationOutcome(figures=(figures("merged", 10), other), comparisons=(), answers=())
    check = apply_gate(chain, Gate(max_perplexity_ratio=1.25)).checks[0]
    assert check.measured == pytest.approx(1.0)
    assert check.name == "perplexity ratio of edited to merged, per byte (4.00 bytes per token)"


def test_other_tokenizers_that_agree_on_the_answers_are_not_told_apart() -> None:
    chain = EvaluationOutcome(
        figures=(figures("merged", 10), figures("edited", 10, tokenizer="other")),
        comparisons=(),
        answers=(),
    )
    check = apply_gate(chain, Gate(max_perplexity_ratio=1.25)).checks[0]
    assert check.name == "perplexity ratio of edited to merged"


@pytest.mark.parametrize("limit", ["max_perplexity_ratio", "max_ratio_to_release"])
@pytest.mark.parametrize("tokens", [500, 999, 1000, 1001, 2000])
@pytest.mark.parametrize("tokenizer", ["one", "other", None])
def test_a_doubled_perplexity_is_a_doubled_one_with_any_tokenizer(
    limit: str, tokens: int, tokenizer: str | None
) -> None:
    """The answers are half as likely a token of the reference, whatever cuts them into tokens."""
    role: Role = "release before" if limit == "max_ratio_to_release" else "merged"
    reference = figures(role, 10, tokens=1000)
    worse = figures("edited", 20, tokens=1000, tokenizer=tokenizer)
    if tokenizer != "one":
        worse = worse.model_copy(update={"tokens": tokens})
    chain = EvaluationOutcome(figures=(reference, worse), comparisons=(), answers=())
    for allowed, passed in ((1.99, False), (2.01, True)):
        verdict = apply_gate(chain, OFF.model_copy(update={limit: allowed}))
        assert verdict.passed is passed
        assert verdict.checks[0].measured == pytest.approx(2.0)


def test_gain_of_a_fine_tune_with_another_tokenizer_is_one_a_token_of_the_model_before() -> None:
    tuned = figures("fine-tuned", 9, tokenizer="other").model_copy(update={"tokens": 13})
    chain = EvaluationOutcome(figures=(figures("edited", 10), tuned), comparisons=(), answers=())
    verdict = apply_gate(chain, OFF.model_copy(update={"min_finetune_gain": 0.02}))
    assert verdict.checks[0].measured == pytest.approx(0.1)


@pytest.mark.parametrize("merged", [15.1, 100, 1e16])
def test_a_merge_that_ruins_the_base_is_refused_by_the_default_gate(merged: float) -> None:
    chain = outcome(("base", 10), ("merged", merged), ("edited", merged))
    verdict = apply_gate(chain, Gate())
    assert not verdict.passed
    assert [check.name for check in verdict.checks if not check.passed] == [
        "perplexity ratio of merged to base"
    ]


@pytest.mark.parametrize(
    ("base", "merged"), [(10, 9), (10, 14.9), (4e16, 50), (4e16, 3e16), (1e300, 5)]
)
def test_merge_that_is_no_worse_than_its_base_passes(base: float, merged: float) -> None:
    assert apply_gate(
        outcome(("base", base), ("merged", merged), ("edited", merged)), Gate()
    ).passed


@pytest.mark.parametrize("nll", [10 * 710.0, math.inf])
def test_merge_of_a_base_whose_perplexity_is_infinite_is_within(nll: float) -> None:
    base = figures("base", 10).model_copy(update={"nll_nats": nll})
    chain = EvaluationOutcome(figures=(base, figures("merged", 50)), comparisons=(), answers=())
    check = apply_gate(chain, Gate()).checks[-1]
    assert (check.passed, check.applies) == (True, True)
    assert check.measured == pytest.approx(0, abs=1e-300)


@pytest.mark.parametrize(
    ("base", "merged"), [(math.nan, 30.0), (30.0, math.nan), (30.0, math.inf), (math.inf, math.inf)]
)
def test_merge_that_cannot_be_held_against_its_base_fails(base: float, merged: float) -> None:
    chain = EvaluationOutcome(
        figures=(
            figures("base", 10).model_copy(update={"nll_nats": base}),
            figures("merged", 10).model_copy(update={"nll_nats": merged}),
        ),
        comparisons=(),
        answers=(),
    )
    verdict = apply_gate(chain, OFF)
    assert not verdict.passed
    assert "nan" not in verdict.reasons[0]


@pytest.mark.parametrize("chain", [[("base", 1e9)], [("base", 10), ("merged", 10)]])
def test_comparison_of_a_model_with_itself_does_not_apply(chain: list[tuple[Role, float]]) -> None:
    (check,) = apply_gate(outcome(*chain), Gate(max_merge_ratio=None)).checks
    assert (check.passed, check.applies, check.measured) == (True, False, None)
    assert f"does not apply, it would compare {chain[-1][0]} with itself" in check.reason


@pytest.mark.parametrize(
    ("limit", "words"),
    [
        ({"max_kl_divergence": 1.0}, "nothing is edited"),
        ({"min_finetune_gain": 0.1}, "nothing is fine-tuned"),
        ({"max_ratio_to_release": 1.0}, "there is no earlier release"),
    ],
)
def test_limit_on_what_the_chain_does_not_have_is_told_and_holds_nothing_up(
    limit: dict[str, float], words: str
) -> None:
    verdict = apply_gate(outcome(("base", 10), ("merged", 10)), OFF.model_copy(update=limit))
    assert verdict.passed
    assert not verdict.checks[0].applies
    assert words in verdict.reasons[0]


def test_force_with_a_reason_releases_what_failed_and_stays_in_the_verdict() -> None:
    chain = outcome(("merged", 10), ("edited", 13))
    verdict = apply_gate(chain, Gate(max_perplexity_ratio=1.25), override=" a demonstration ")
    assert not verdict.passed
    assert verdict.allows_release
    assert verdict.forced == "a demonstration"


@pytest.mark.parametrize("blank", [None, "", "  "])
def test_force_without_a_reason_is_none(blank: str | None) -> None:
    chain = outcome(("merged", 10), ("edited", 13))
    assert not apply_gate(chain, Gate(max_perplexity_ratio=1.25), override=blank).allows_release


def test_force_of_what_passes_is_not_recorded() -> None:
    assert apply_gate(outcome(("base", 10)), Gate(), override="in a hurry").forced is None


@pytest.mark.parametrize(("exact", "passed"), [(4, False), (3, True), (0, True)])
def test_figures_on_what_the_model_was_trained_on_prove_nothing(exact: int, passed: bool) -> None:
    leaks = Leaks(100, 5, exact=exact, near=min(exact, 1))
    held_out = HeldOut(records=5, measured=5, set_aside={}, leaks=leaks)
    chain = outcome(("edited", 10), ("fine-tuned", 1.1)).model_copy(update={"held_out": held_out})
    verdict = apply_gate(chain, OFF)
    assert verdict.passed is passed
    if not passed:
        assert "not in the training data: 0, below the limit 1" in verdict.reasons[0]
        assert apply_gate(chain, OFF, override="a trial").allows_release


def test_limit_on_the_merge_does_not_apply_without_a_delta() -> None:
    (check,) = apply_gate(outcome(("base", 10), ("edited", 1e9)), OFF).checks
    assert (check.passed, check.applies) == (True, False)
    assert "no delta is merged" in check.reason


def test_without_limits_everything_passes() -> None:
    assert apply_gate(outcome(("base", 1e9)), OFF).passed


def test_a_ratio_far_from_one_is_written_as_in_the_tables() -> None:
    chain = outcome(("base", 4e16), ("merged", 50))
    (reason,) = [
        c.reason for c in apply_gate(chain, Gate(max_perplexity_ratio=None)).checks if c.applies
    ]
    assert "merged to base: 1.25 × 10⁻¹⁵, within" in reason


def judged(*winners: Winner | None) -> EvaluationOutcome:
    pairs = tuple(JudgedPair(prompt_id=str(n), winner=w) for n, w in enumerate(winners))
    found = PairwiseJudgement(model="hakim", before="release before", after="edited", pairs=pairs)
    chain = outcome(("release before", 10), ("merged", 10), ("edited", 10))
    return chain.model_copy(update={"judgement": found})


def test_a_judge_alone_holds_up_nothing() -> None:
    assert apply_gate(judged("before", "before"), OFF).passed


@pytest.mark.parametrize(
    ("found", "passed"),
    [
        (judged("after", "tie"), True),
        (judged("after", "before"), True),
        (judged("tie", "before"), False),
        (judged(None), False),
        (judged("after", None), True),
        (judged("after", None, None), False),
        (judged(), False),
        (judged().model_copy(update={"judgement": None}), False),
    ],
)
def test_a_limit_for_a_judge_holds_and_fails_where_nothing_was_judged(
    found: EvaluationOutcome, passed: bool
) -> None:
    limits = OFF.model_copy(update={"min_judge_win_rate": 0.5})
    assert apply_gate(found, limits).passed is passed


@pytest.mark.parametrize(
    ("found", "told"),
    [
        (judged("after", None, "tie"), "release before (2 of 3 pairs judged)"),
        (judged("after", "tie"), "release before"),
    ],
)
def test_pairs_that_nobody_judged_are_told_with_the_limit(
    found: EvaluationOutcome, told: str
) -> None:
    check = apply_gate(found, OFF.model_copy(update={"min_judge_win_rate": 0.5})).checks[-1]
    assert check.name.endswith(told)


def test_a_limit_for_a_judge_does_not_apply_to_a_first_release() -> None:
    limits = OFF.model_copy(update={"min_judge_win_rate": 0.5})
    verdict = apply_gate(outcome(("merged", 10), ("edited", 10)), limits)
    assert verdict.passed
    assert "does not apply, there is no earlier release" in verdict.reasons[-1]
