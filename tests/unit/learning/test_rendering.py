import re

from tasks.core.evaluation.figures import EvaluationOutcome, ModelAnswer
from tasks.core.evaluation.gate import apply_gate
from tasks.core.evaluation.judgement import JudgedPair, PairwiseJudgement
from tasks.core.learning.rendering import render_html, render_markdown
from tasks.core.learning.report import LearningReport, Measured, ReviewedCounts, learning_report
from tasks.core.learning.topics import read_topics
from tasks.core.recipe import Gate
from tests.unit.learning.test_changes import figures

MATERIAL = ReviewedCounts(answers=62, new=50, conversations=49, held_out=13, preferences=7)
SET = "collected-0123456789abcdef0123"
LIMIT = Gate(max_perplexity_ratio=None, max_merge_ratio=None, max_ratio_to_release=1.0)


def measured(title: str, *after: float) -> Measured:
    answers = tuple(
        ModelAnswer(role=role, prompt_id=id_, prompt=prompt, text=text, tokens=1, wall_s=1.0)
        for id_, prompt, texts in (
            ("p", "Apa itu <i>NIB</i>?", ("Tidak tahu.", "<script>alert(1)</script>")),
            ("q", "Berapa modal?", ("Dua juta.", "Dua juta.")),
        )
        for role, text in zip(("release before", "fine-tuned"), texts, strict=True)
    )
    pairs = (JudgedPair(prompt_id="p", winner="after"),)
    outcome = EvaluationOutcome(
        figures=(figures("release before", 10, 10), figures("fine-tuned", *after)),
        comparisons=(),
        answers=answers,
        judgement=PairwiseJudgement(
            model="hakim", before="release before", after="fine-tuned", pairs=pairs
        ),
    )
    return Measured(title, outcome, apply_gate(outcome, LIMIT), {1: "izin", 2: "modal"})


def told(*each: Measured, reasons: tuple[str, ...] = ()) -> LearningReport:
    return learning_report("demo", SET, MATERIAL, each, read_topics(), reasons=reasons)


def test_a_model_that_one_measurement_refuses_is_not_released_and_the_page_says_why() -> None:
    found = told(measured("Held-out", 9, 9), measured("Reviewed", 11, 12))
    assert not found.released
    assert found.reasons == (
        "Reviewed: perplexity ratio of fine-tuned to the release before: 1.149, above the limit 1",
    )
    for shown in (render_html(found), render_markdown(found)):
        assert "Not released" in shown
        assert found.reasons[0] in shown
        assert "62 reviewed answers, 50 of them new" in shown
        assert "Worse: modal, izin." in shown


def test_a_further_reason_is_enough() -> None:
    assert not told(measured("Held-out", 9, 9), reasons=("nothing is held out",)).released


def test_a_released_model_says_what_it_kept_to_and_what_got_better() -> None:
    found = told(measured("Held-out", 5, 12), measured("Reviewed", 9, 9))
    assert found.released
    html = render_html(found)
    assert "Why it is released" in html
    assert "Better: izin; worse: modal." in html
    assert "-50.0 %" in html
    assert "The judge prefers the new model." in html


def test_words_of_models_and_people_are_escaped_and_the_page_stands_alone() -> None:
    html = render_html(told(measured("Held-out", 5, 12)))
    assert "<script>" not in html
    assert "&lt;i&gt;NIB&lt;/i&gt;?" in html
    assert not re.search(r"(src|href)=|url\(|@import|https?:", html)


def test_answers_that_differ_come_first() -> None:
    found = told(measured("Held-out", 5, 12))
    assert [side.prompt for side in found.sections[0].sides] == [
        "Apa itu <i>NIB</i>?",
        "Berapa modal?",
    ]
