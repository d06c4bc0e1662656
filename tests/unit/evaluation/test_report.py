import math
import re
from typing import Any
from xml.etree import ElementTree

import pytest

from tasks.core.conversation.checking.leaks import Leak, Leaks
from tasks.core.evaluation.charts import bars, curve
from tasks.core.evaluation.figures import (
    Benchmark,
    Comparison,
    EvaluationOutcome,
    Figures,
    HeldOut,
    ModelAnswer,
    Role,
)
from tasks.core.evaluation.gate import GateVerdict, apply_gate
from tasks.core.evaluation.judgement import Agreement, JudgedPair, PairwiseJudgement
from tasks.core.evaluation.numbers import change, memory, number
from tasks.core.evaluation.report import LineageRow, report_html
from tasks.core.evaluation.summary import plain_figures, summary_markdown
from tasks.core.progress import duration
from tasks.core.recipe import Gate

SVG = "{http://www.w3.org/2000/svg}"


def figures(role: Role, perplexity: float) -> Figures:
    return Figures(
        role=role,
        conversations=2,
        tokens=10,
        utf8_bytes=40,
        nll_nats=10 * math.log(perplexity),
        dtype="float32",
        tokens_per_s=50.0,
        peak_memory_bytes=2_000_000_000,
    )


def whole() -> EvaluationOutcome:
    """A chain with everything that a page can show."""
    roles: list[tuple[Role, float]] = [
        ("release before", 49.0),
        ("base", 4e16),
        ("merged", 50.0),
        ("edited", 53.0),
        ("fine-tuned", 43.0),
    ]
    comparison = Comparison(
        before="merged", after="edited", tokens=10, kl_divergence_nats=0.0579, top1_agreement=0.814
    )
    answer = ModelAnswer(
        role="fine-tuned",
        prompt_id="p",
        prompt="<i>NIB</i>?",
        text="<script>alert(1)</script>",
        tokens=8,
        wall_s=2.0,
    )
    return EvaluationOutcome(
        figures=tuple(figures(role, perplexity) for role, perplexity in roles),
        comparisons=(comparison,),
        answers=(answer,),
        benchmarks=(
            Benchmark(role="fine-tuned", task="warung", metric="acc", value=0.5, stderr=0.1),
        ),
    )


def page(verdict: GateVerdict | None = None) -> str:
    lineage = [LineageRow("merge", "merge-1<", "d" * 64, 189.0, 842_000_000, cached=True)]
    return report_html(
        "Uji",
        whole(),
        verdict or apply_gate(whole(), Gate()),
        lineage,
        losses=[(1, 3.0), (2, math.nan), (3, 1)],
        validation=[(3, 2.0), (6, 1.0)],
    )


def widths(svg: str) -> list[tuple[float, str]]:
    tree = ElementTree.fromstring(svg)  # noqa: S314 - our own picture
    rects = [rect for rect in tree.iter("rect") if rect.get("class") != "gap"]
    return [(float(rect.get("width", "nan")), rect.get("class", "")) for rect in rects]


def test_page_stands_alone() -> None:
    assert not re.search(r"(src|href)=|url\(|@import|https?:", page())


def test_words_of_models_and_users_are_escaped() -> None:
    html = page()
    assert "<script>" not in html
    assert "&lt;i&gt;NIB&lt;/i&gt;?" in html
    assert "merge-1&lt;" in html


def with_held_out(leaks: Leaks | None, **set_aside: int) -> EvaluationOutcome:
    first = tuple(f"record {n} (<x>): says nothing" for n in range(len(set_aside)))
    held_out = HeldOut(
        records=32, measured=30, set_aside=set_aside, first_set_aside=first, leaks=leaks
    )
    return whole().model_copy(update={"held_out": held_out})


def test_what_is_set_aside_and_what_leaks_stands_in_page_and_markdown() -> None:
    leak = Leak(5, "<b>", 7, "t", exact=True)
    outcome = with_held_out(Leaks(160, 30, 2, 1, (leak,)), duplicate=2)
    verdict = apply_gate(outcome, Gate())
    text, html = summary_markdown(outcome, verdict), report_html("Uji", outcome, verdict)
    for shown in (text, html):
        assert "2 of 32 held-out records are set aside, as in training: 2 duplicate" in shown
        assert "3 of 30 held-out conversations stand in the training data: 2 word for word" in shown
    assert "held-out record 5 (<b>) says the same as training record 7 (t)" in text
    assert "<b>)" not in html


def test_without_a_leak_or_a_bad_record_nothing_is_said_of_them() -> None:
    clean = with_held_out(Leaks(160, 30, 0, 0))
    for outcome in (whole(), clean):
        assert "Held-out data" not in summary_markdown(outcome, apply_gate(outcome, Gate()))


@pytest.mark.parametrize(
    "shown",
    ["4.00 × 10¹⁶", "+6.0 %", "81.4 %", "0.0579", "3 min 09 s", "842 MB", "warung", "2.00 GB"],
)
def test_page_shows_every_figure(shown: str) -> None:
    assert shown in page()


def test_page_shows_speed_of_reading_and_of_writing() -> None:
    row = next(line for line in page().splitlines() if "<td>fine-tuned</td><td" in line)
    assert ">50<" in row
    assert ">4.0<" in row


@pytest.mark.parametrize(
    ("verdict", "words"),
    [
        (GateVerdict(passed=False, checks=()), "Gate failed: not published, not served"),
        (GateVerdict(passed=False, checks=(), forced="a <b>fair</b>"), "a &lt;b&gt;fair&lt;/b&gt;"),
        (GateVerdict(passed=True, checks=()), "no limit was set"),
    ],
)
def test_verdict_is_said_in_page_and_markdown(verdict: GateVerdict, words: str) -> None:
    assert words in page(verdict)
    assert verdict.forced is None or verdict.forced in summary_markdown(whole(), verdict)


def test_markdown_tells_the_chain_and_the_release_before_it() -> None:
    text = summary_markdown(whole(), apply_gate(whole(), Gate()))
    assert "| edited | 53.00 | " in text
    assert "| merged | edited | +6.0 % | 0.0579 | 81.4% |" in text
    assert "| release before | fine-tuned | -12.2 % | - | - |" in text
    assert "| base | release" not in text


def test_change_between_models_with_other_tokenizers_is_taken_as_the_gate_does() -> None:
    """The tuned model's tokenizer needs twice the tokens; its answers are as likely as before."""
    doubled = figures("edited", 50.0).model_copy(update={"tokens": 20})
    chain = EvaluationOutcome(
        figures=(figures("merged", 50.0), doubled), comparisons=(), answers=()
    )
    verdict = apply_gate(chain, Gate())
    assert "| merged | edited | +0.0 % | - | - |" in summary_markdown(chain, verdict)
    assert verdict.checks[0].measured == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        (Gate(), "no limit applies"),
        (Gate(max_perplexity_ratio=None, max_merge_ratio=None), "no limit was set"),
        (Gate(max_perplexity=60), "Gate passed"),
    ],
)
def test_a_gate_that_judged_nothing_is_not_said_to_be_passed(limits: Gate, words: str) -> None:
    alone = EvaluationOutcome(figures=(figures("base", 50.0),), comparisons=(), answers=())
    assert words in summary_markdown(alone, apply_gate(alone, limits))


def test_program_gets_the_figures_of_the_page_with_their_units() -> None:
    plain: Any = plain_figures(whole(), apply_gate(whole(), Gate()))
    tuned = plain["outcome"]["figures"][-1]
    assert tuned["role"] == "fine-tuned"
    assert tuned["perplexity_per_token"] == pytest.approx(43.0)
    assert tuned["perplexity_per_byte"] == pytest.approx(43.0**0.25)
    assert (tuned["reads_tokens_per_s"], tuned["writes_tokens_per_s"]) == (50.0, 4.0)
    assert (tuned["tokens"], tuned["nll_nats"]) == (10, pytest.approx(10 * math.log(43.0)))
    steps = {(step["before"], step["after"]): step for step in plain["outcome"]["comparisons"]}
    edited = steps["merged", "edited"]
    assert edited["perplexity_ratio"] == pytest.approx(1.06)
    assert (edited["kl_divergence_nats"], edited["top1_agreement"]) == (0.0579, 0.814)
    assert steps["release before", "fine-tuned"]["kl_divergence_nats"] is None
    assert plain["outcome"]["benchmarks"][0]["value"] == 0.5
    assert plain["verdict"]["passed"] is True


def test_loss_curve_is_drawn_without_what_is_no_number() -> None:
    lines = re.findall(r'<polyline class="curve (\w+)" points="([^"]*)"', page())
    assert [(name, len(points.split())) for name, points in lines] == [
        ("training", 2),
        ("validation", 2),
    ]


def test_bars_are_in_proportion_and_start_at_nought() -> None:
    (one, _), (two, _) = widths(bars([("a", 20.0), ("b", 40.0)]))
    assert two == pytest.approx(2 * one, rel=0.01)


@pytest.mark.parametrize("bad", [4e16, math.inf, math.nan])
def test_bar_off_the_scale_is_cut_and_leaves_the_others_readable(bad: float) -> None:
    (cut, kind), (good, plain) = widths(bars([("base", bad), ("merged", 50.0)]))
    assert (kind, plain) == ("bar cut", "bar")
    assert 0.5 * cut < good <= cut


def test_bars_without_any_number_are_drawn_all_the_same() -> None:
    assert [kind for _, kind in widths(bars([("a", math.nan)]))] == ["bar cut"]


@pytest.mark.parametrize("points", [[(1, 2.0)], [(1, 2.0), (2, 2.0)], [(10, 3.0), (400, 0.01)]])
def test_curve_stays_inside_its_picture(points: list[tuple[int, float]]) -> None:
    drawn = curve({"training": points}, "Loss <")
    assert "training</text>" not in drawn  # a line alone needs no name
    tree = ElementTree.fromstring(drawn)  # noqa: S314 - our own picture
    _, _, width, height = map(float, tree.get("viewBox", "").split())
    for circle in tree.iter("circle"):
        assert 0 <= float(circle.get("cx", "nan")) <= width
        assert 0 <= float(circle.get("cy", "nan")) <= height


@pytest.mark.parametrize("ends", [(1.0, 1.0), (1.0, 1.01), (1.01, 1.0), (3.0, 1.0), (1.0, 3.0)])
def test_the_names_of_two_lines_are_not_written_over_each_other(ends: tuple[float, float]) -> None:
    lines = {name: [(1, 4.0), (9, end)] for name, end in zip(("one", "two"), ends, strict=True)}
    tree = ElementTree.fromstring(curve(lines, "Loss"))  # noqa: S314 - our own picture
    places = {
        str(text.text).split()[-1]: float(text.get("y", "nan"))
        for text in tree.iter("text")
        if text.get("class") == "value"
    }
    assert abs(places["one"] - places["two"]) >= 16
    assert (places["one"] < places["two"]) == (ends[0] >= ends[1])


@pytest.mark.parametrize(
    ("value", "text"),
    [(1234.5, "1,234.50"), (4.05e16, "4.05 × 10¹⁶"), (math.inf, "∞"), (math.nan, "not a number")],
)
def test_numbers_are_readable(value: float, text: str) -> None:
    assert number(value) == text


def test_changes_durations_and_sizes_are_readable() -> None:
    assert change(50.0, 53.0) == "+6.0 %"
    assert change(4e16, 50.0).startswith("÷ 8.00 × 10")
    assert change(math.inf, 50.0) == change(50.0, 0.0) == "-"
    assert [duration(s) for s in (0.4, 189, 7500)] == ["0.4 s", "3 min 09 s", "2 h 05 min"]
    assert memory(2_090_000_000) == "2.09 GB"


def with_judgement() -> EvaluationOutcome:
    pair = JudgedPair(prompt_id="p", winner="after", reasons=("<b>Lebih jelas.</b>",))
    unjudged = JudgedPair(prompt_id="q", winner=None)
    found = PairwiseJudgement(
        model="hakim",
        before="release before",
        after="fine-tuned",
        pairs=(pair, unjudged),
        left_out=3,
        input_tokens=1200,
        output_tokens=80,
        cost=0.0123,
        agreement=Agreement(pairs=40, share=0.75, kappa=0.5),
    )
    return whole().model_copy(update={"judgement": found})


def test_what_a_judge_prefers_stands_with_its_agreement_and_cost_on_page_and_in_markdown() -> None:
    outcome = with_judgement()
    verdict = apply_gate(outcome, Gate())
    text, html = summary_markdown(outcome, verdict), report_html("Uji", outcome, verdict)
    for shown in (text, html.replace("&#39;", "'")):
        assert "1 won, 0 tied, 0 lost (100% won, ties counting half)" in shown
        assert "1 pairs have no verdict" in shown
        assert "3 pairs were left out" in shown
        assert "agrees with them on 75% (Cohen's kappa 0.50" in shown
        assert "1,200 tokens and wrote 80, for 0.0123" in shown
    assert "The judge prefers fine-tuned." in html
    assert "&lt;b&gt;Lebih jelas.&lt;/b&gt;" in html
    assert "<b>Lebih" not in html


def test_a_program_reads_the_counts_of_a_judgement() -> None:
    outcome = with_judgement()
    plain: Any = plain_figures(outcome, apply_gate(outcome, Gate()))
    assert plain["outcome"]["judgement"]["win_rate"] == 1.0
    assert plain["outcome"]["judgement"]["unjudged"] == 1
    plain = plain_figures(whole(), apply_gate(whole(), Gate()))
    assert plain["outcome"]["judgement"] is None
