"""Answers of two models before a judge, in both orders, within the recipe's limit of cost.

Runs in the process of the evaluation's caller, never in one that runs a model's code: only here is
the judge's key. The invariant: no question is paid for twice, and none is asked that could exceed
the limit.
"""

from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path

from pydantic import JsonValue

from tasks.core.evaluation.figures import Answer, Outcome, Role, compared_roles
from tasks.core.evaluation.judge_bench import Bench, Pair
from tasks.core.evaluation.judge_endpoint import Endpoint, require_key
from tasks.core.evaluation.judge_journal import Journal
from tasks.core.evaluation.judge_words import RULES
from tasks.core.evaluation.judgement import Agreement, Judgement, agreement
from tasks.core.evaluation.rated_pairs import choose_rated
from tasks.core.files.digests import sha256_of
from tasks.core.files.given import require_at_rest
from tasks.core.recipe.judge import Judge

JOURNAL = "judgements.jsonl"


def judge_identity(judge: Judge) -> dict[str, JsonValue]:
    """Return what decides a judgement, for a stage key: the ratings by their content.

    Where the key comes from is no part of it, nor what it may see. Raises OSError for ratings that
    cannot be read.
    """
    no_part = {"key_variable", "ratings", "sees_collected"}
    shown: dict[str, JsonValue] = judge.model_dump(mode="json", exclude=no_part)
    return {
        **shown,
        "rules": sha256(RULES.encode()).hexdigest(),
        "ratings": None if judge.ratings is None else sha256_of(judge.ratings),
    }


def check_judge(judge: Judge) -> None:
    """Raise what judging would end with, as far as that is known without asking the judge.

    JudgeRefused without its key, DataError for ratings that cannot be used.
    """
    require_key(judge)
    if judge.ratings is not None:
        require_at_rest(judge.ratings)
        choose_rated(judge.ratings, 1, seed=judge.seed)


def judged(outcome: Outcome, judge: Judge, directory: Path, say: Callable[[str], None]) -> Outcome:
    """Return the outcome with what the judge prefers; as it is where nothing can be compared.

    Verdicts go into a file of the existing directory, and those that are there are not asked for
    again. Raises JudgeRefused, JudgeUnavailable, OSError, and DataError for ratings that cannot be
    used.
    """
    roles = compared_roles(outcome)
    if roles is None:
        say("judge: there is no release before, and nothing to compare with")
        return outcome
    pairs = _pairs(outcome, *roles)
    chosen = _drawn(pairs, judge)
    with Endpoint(judge) as endpoint:
        bench = Bench(judge, endpoint, Journal(directory / JOURNAL), say)
        found = bench.verdicts(chosen, "pair")
        agreed = _agreement(judge, bench)
    in_order = {pair.id: number for number, pair in enumerate(pairs)}
    judgement = Judgement(
        model=judge.model,
        before=roles[0],
        after=roles[1],
        pairs=tuple(sorted(found, key=lambda pair: in_order[pair.prompt_id])),
        drawn=len(chosen),
        left_out=len(pairs) - len(found),
        input_tokens=bench.input_tokens,
        output_tokens=bench.output_tokens,
        uncounted=bench.uncounted,
        cost=bench.cost if judge.input_price or judge.output_price else None,
        agreement=agreed,
    )
    return outcome.model_copy(update={"judgement": judgement})


def _pairs(outcome: Outcome, before: Role, after: Role) -> list[Pair]:
    def of(role: Role) -> dict[str, Answer]:
        return {answer.prompt_id: answer for answer in outcome.answers if answer.role == role}

    theirs = of(before)
    return [
        Pair(id_, answer.prompt, theirs[id_].text, answer.text)
        for id_, answer in of(after).items()
        if id_ in theirs
    ]


def _drawn(pairs: Sequence[Pair], judge: Judge) -> list[Pair]:
    """Return as many pairs as may be judged; those that the cost forbids are then a chance too."""

    def draw(pair: Pair) -> str:
        return sha256(f"{judge.seed}\0{pair.id}".encode()).hexdigest()

    return sorted(pairs, key=draw)[: judge.max_pairs]


def _agreement(judge: Judge, bench: Bench) -> Agreement | None:
    if judge.ratings is None:
        return None
    rated, _ = choose_rated(judge.ratings, judge.max_pairs, seed=judge.seed)
    numbered = {str(number): pair for number, pair in enumerate(rated)}
    pairs = [Pair(n, each.prompt, each.before, each.after) for n, each in numbered.items()]
    found = [pair for pair in bench.verdicts(pairs, "rated pair") if pair.winner is not None]
    people = [numbered[pair.prompt_id].preferred for pair in found]
    return agreement(people, [pair.winner for pair in found if pair.winner is not None])
