import math

from tasks.core.evaluation.figures import ConversationFigures, EvaluationOutcome, Figures, Role
from tasks.core.learning.changes import changes, in_words


def figures(role: Role, *perplexities: float, tokens: int = 10) -> Figures:
    """Return those of a conversation for each perplexity, at the positions 1, 2 and so on."""
    reads = tuple(
        ConversationFigures(
            position=n, tokens=tokens, utf8_bytes=40, nll_nats=tokens * math.log(each)
        )
        for n, each in enumerate(perplexities, start=1)
    )
    return Figures(
        role=role,
        conversations=len(reads),
        tokens=tokens * len(reads),
        utf8_bytes=40 * len(reads),
        nll_nats=sum(read.nll_nats for read in reads),
        dtype="float32",
        tokens_per_s=1.0,
        peak_memory_bytes=1,
        tokenizer_digest="one",
        reads=reads,
    )


def outcome(*measured: Figures) -> EvaluationOutcome:
    return EvaluationOutcome(figures=measured, comparisons=(), answers=())


def test_without_a_release_before_or_sums_of_each_conversation_nothing_is_told() -> None:
    assert changes(outcome(figures("merged", 2), figures("fine-tuned", 1)), {1: "modal"}) == ()
    old = figures("release before", 2).model_copy(update={"reads": ()})
    assert changes(outcome(old, figures("fine-tuned", 1)), {1: "modal"}) == ()
    assert in_words(()) == "No topic can be compared."


def test_a_perplexity_that_is_no_number_is_worse() -> None:
    after = figures("fine-tuned", math.nan)
    (found,) = changes(outcome(figures("release before", 2), after), {1: "modal"})
    assert found.change == "worse"


def test_each_topic_has_its_own_change_and_the_worst_comes_first() -> None:
    before = figures("release before", 10, 10, 10, 10)
    after = figures("fine-tuned", 5, 5, 10.1, 12)
    found = changes(outcome(before, after), {1: "modal", 2: "modal", 3: "pajak", 4: "harga"})
    assert [(each.topic, each.change) for each in found] == [
        ("harga", "worse"),
        ("pajak", "the same"),
        ("modal", "better"),
    ]
    assert found[-1].conversations == 2
    assert math.isclose(found[-1].ratio, 0.5)
    assert in_words(found) == "Better: modal; worse: harga."
    assert in_words(found[1:2]) == "No topic changed by more than 2 %."


def test_a_record_without_a_topic_is_measured_all_the_same() -> None:
    found = changes(outcome(figures("against", 2), figures("model", 1)), {})
    assert [each.conversations for each in found] == [1]
