import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tasks.core.errors import DataError, JudgeRefused
from tasks.core.evaluation import judge_endpoint
from tasks.core.evaluation.figures import EvaluationOutcome, Figures, ModelAnswer, Role
from tasks.core.evaluation.judge_endpoint import Endpoint
from tasks.core.evaluation.judgement import PairwiseJudgement
from tasks.core.evaluation.side_by_side import JOURNAL, check_judge, judge_identity, with_judgement
from tasks.core.recipe import Judge
from tests.judges import JudgeServer, Said, always_first, completion


@pytest.fixture
def server() -> Iterator[JudgeServer]:
    server = JudgeServer()
    yield server
    server.close()


def outcome(
    answers: dict[str, tuple[str, str]], before: Role = "release before"
) -> EvaluationOutcome:
    """Two models, and what each answers: the one before, then the one at hand."""
    roles: tuple[Role, Role] = (before, "fine-tuned")
    return EvaluationOutcome(
        figures=tuple(
            Figures(
                role=role,
                conversations=1,
                tokens=1,
                utf8_bytes=1,
                nll_nats=1.0,
                dtype="float32",
                tokens_per_s=1.0,
                peak_memory_bytes=1,
            )
            for role in roles
        ),
        comparisons=(),
        answers=tuple(
            ModelAnswer(role=role, prompt_id=id_, prompt=f"{id_}?", text=text, tokens=1, wall_s=1.0)
            for id_, texts in answers.items()
            for role, text in zip(roles, texts, strict=True)
        ),
    )


def judgement(
    found: EvaluationOutcome, server: JudgeServer, directory: Path, **settings: object
) -> PairwiseJudgement:
    judge = Judge.model_validate({"model": "hakim", "url": server.url, **settings})
    result = with_judgement(found, judge, directory, lambda _: None).judgement
    assert result is not None
    return result


def rated(path: Path, pairs: list[tuple[str, str]]) -> Path:
    turns = [{"from": "human", "value": "Apa itu NIB?"}]
    lines = [
        {"id": str(n), "conversations": turns, "chosen": chosen, "rejected": rejected}
        for n, (chosen, rejected) in enumerate(pairs)
    ]
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return path


FOUR = {f"p{n}": ("pendek", f"jauh lebih panjang {n}") for n in range(4)}


def test_a_killed_judgement_pays_for_no_verdict_twice(
    server: JudgeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = Endpoint.ask

    def killed_at_the_fourth(
        self: Endpoint, text: str, lost: Callable[[], bool]
    ) -> judge_endpoint.Reply:
        if len(server.requests) == 3:
            raise KeyboardInterrupt
        return asked(self, text, lost)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Endpoint, "ask", killed_at_the_fourth)
        judgement(outcome(FOUR), server, tmp_path)
    with (tmp_path / JOURNAL).open("ab") as torn:
        torn.write(b'{"question": "half')
    found = judgement(outcome(FOUR), server, tmp_path)
    assert len(server.requests) == 8
    assert found.wins == 4
    assert (found.input_tokens, found.output_tokens) == (800, 80)
    judgement(outcome(FOUR), server, tmp_path)
    assert len(server.requests) == 8


def test_what_a_stranger_wrote_into_the_journal_is_asked_again(
    server: JudgeServer, tmp_path: Path
) -> None:
    (tmp_path / JOURNAL).write_bytes(b"\n[]\n{}\n\xff\n" + b'{"question": 1}\n')
    assert judgement(outcome(FOUR), server, tmp_path).wins == 4


def test_a_judge_that_goes_by_the_order_decides_nothing(tmp_path: Path) -> None:
    server = JudgeServer(always_first)
    found = judgement(outcome(FOUR), server, tmp_path)
    server.close()
    assert (found.wins, found.ties, found.losses, found.turned) == (0, 4, 0, 4)
    assert found.win_rate == 0.5


def test_a_judge_that_refuses_the_form_gives_no_verdict(
    server: JudgeServer, tmp_path: Path
) -> None:
    server.instead = [completion("I cannot compare these.")]
    found = judgement(outcome(FOUR), server, tmp_path)
    assert (found.unjudged, found.wins) == (1, 3)


def test_an_endpoint_that_refuses_leaves_what_was_paid(server: JudgeServer, tmp_path: Path) -> None:
    server.instead = []
    first = outcome({"p0": FOUR["p0"]})
    judgement(first, server, tmp_path)
    server.instead = [Said(401, b"expired")]
    with pytest.raises(JudgeRefused):
        judgement(outcome(FOUR), server, tmp_path)
    assert len((tmp_path / JOURNAL).read_bytes().splitlines()) == 2


def test_the_limit_of_cost_is_never_exceeded_and_the_rest_is_counted(tmp_path: Path) -> None:
    server = JudgeServer(usage=(1200, 16))  # nearly the most that a question here can take
    prices = {"input_price": 1000.0, "output_price": 1000.0, "max_reply_tokens": 16}
    found = judgement(outcome(FOUR), server, tmp_path, **prices, max_cost=6.0)
    assert found.cost == pytest.approx(2 * 2 * 1.216)
    assert (len(found.pairs), found.left_out) == (2, 2)
    other = tmp_path / "other"
    other.mkdir()
    nothing = judgement(outcome(FOUR), server, other, **prices, max_cost=0.01)
    server.close()
    assert (nothing.pairs, nothing.left_out, nothing.cost) == ((), 4, 0)


def test_tokens_that_are_not_told_count_as_the_most_they_can_be(tmp_path: Path) -> None:
    server = JudgeServer(usage=None)
    found = judgement(outcome(FOUR), server, tmp_path, output_price=1e6, max_reply_tokens=20)
    server.close()
    assert found.uncounted == 8
    assert found.cost == 8 * 20


def test_equal_answers_are_a_tie_of_which_nobody_is_asked(
    server: JudgeServer, tmp_path: Path
) -> None:
    found = judgement(outcome({"p": ("sama", "sama")}), server, tmp_path)
    assert (found.ties, found.turned) == (1, 0)
    assert server.requests == []


def test_only_so_many_pairs_are_judged_and_they_are_drawn(
    server: JudgeServer, tmp_path: Path
) -> None:
    many = outcome({f"p{n}": ("a", "bb") for n in range(20)})
    one = judgement(many, server, tmp_path, max_pairs=5, seed=1)
    other = judgement(many, server, tmp_path, max_pairs=5, seed=2)
    assert (len(one.pairs), one.left_out) == (5, 15)
    assert {p.prompt_id for p in one.pairs} != {p.prompt_id for p in other.pairs}


def test_without_a_release_before_nobody_is_asked(server: JudgeServer, tmp_path: Path) -> None:
    chain = outcome(FOUR, before="merged")
    judge = Judge(model="hakim", url=server.url)
    assert with_judgement(chain, judge, tmp_path, lambda _: None) == chain
    assert server.requests == []


def test_agreement_with_people_is_taken_in_both_places(server: JudgeServer, tmp_path: Path) -> None:
    """The judge prefers what is longer; people do in three of four pairs."""
    pairs = [("jauh lebih panjang", "pendek")] * 30 + [("pendek", "jauh lebih panjang")] * 10
    file = rated(tmp_path / "preferences.jsonl", pairs)
    found = judgement(outcome({}), server, tmp_path, ratings=file)
    assert found.agreement is not None
    assert found.agreement.pairs == 40
    assert found.agreement.share == 0.75
    assert found.agreement.kappa == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ("{}\n", "id: Field required"),
        ('{"id": "a", "conversations": [], "chosen": "b", "rejected": "c"}\n', "conversations"),
        ('{"id": "a"', "not JSON"),
        ('[{"id": "a", "conversations": 1}]', "conversations"),
    ],
)
def test_ratings_that_are_none_are_refused_with_their_place(
    content: str, found: str, tmp_path: Path
) -> None:
    file = tmp_path / "preferences.jsonl"
    file.write_text(content)
    judge = Judge(model="m", url="https://api.example.com/v1", ratings=file)
    with pytest.raises(DataError, match=found) as told:
        check_judge(judge)
    assert str(file) in str(told.value)


def test_where_the_key_lies_decides_no_judgement_and_what_people_rated_does(
    tmp_path: Path,
) -> None:
    file = rated(tmp_path / "preferences.jsonl", [("a", "b")])
    judge = Judge(model="m", url="https://api.example.com/v1", ratings=file)
    named = judge.model_copy(update={"key_variable": "HAKIM_KEY"})
    assert judge_identity(named) == judge_identity(judge)
    before = judge_identity(judge)
    rated(file, [("a", "c")])
    assert judge_identity(judge) != before
