"""Have a judge compare the answers of two models, within the recipe's cost limit.

Runs in the caller's process, which has the judge's key, and never in one that runs a model's code.
The invariant: no question is paid for twice, and none is asked that could exceed the limit.
"""

from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path

from pydantic import JsonValue

from tasks.core.evaluation.figures import EvaluationOutcome, ModelAnswer, Role, compared_roles
from tasks.core.evaluation.judge_endpoint import Endpoint, require_key
from tasks.core.evaluation.judge_journal import JudgeJournal
from tasks.core.evaluation.judge_pairs import AnswerPair, PairJudge
from tasks.core.evaluation.judge_question import RULES
from tasks.core.evaluation.judgement import Agreement, PairwiseJudgement, agreement
from tasks.core.evaluation.rated_pairs import choose_rated
from tasks.core.files.digests import sha256_of
from tasks.core.files.given import require_at_rest
from tasks.core.recipe.judge import Judge

JOURNAL = "judgements.jsonl"


def judge_identity(judge: Judge) -> dict[str, JsonValue]:
    """Return what determines a judgement, for a stage key; ratings count by their content.

    Without the key's source and what the judge may see. Raises OSError for ratings that cannot be
    read.
    """
    excluded = {"key_variable", "ratings", "sees_collected"}
    shown: dict[str, JsonValue] = judge.model_dump(mode="json", exclude=excluded)
    return {
        **shown,
        "rules": sha256(RULES.encode()).hexdigest(),
        "ratings": None if judge.ratings is None else sha256_of(judge.ratings),
    }


def check_judge(judge: Judge) -> None:
    """Raise the errors of judging that can be found without asking the judge.

    JudgeRefused without its key, DataError for ratings that cannot be used.
    """
    require_key(judge)
    if judge.ratings is not None:
        require_at_rest(judge.ratings)
        choose_rated(judge.ratings, 1, seed=judge.seed)


def with_judgement(
    outcome: EvaluationOutcome, judge: Judge, directory: Path, say: Callable[[str], None]
) -> EvaluationOutcome:
    """Return the outcome with the judge's verdicts; unchanged where nothing can be compared.

    Verdicts are kept in a file of the existing directory and not asked for again. Raises
    JudgeRefused, JudgeUnavailable, OSError, and DataError for ratings that cannot be used.
    """
    roles = compared_roles(outcome)
    if roles is None:
        say("judge: there is no earlier release to compare with")
        return outcome
    pairs = _pairs(outcome, *roles)
    chosen = _drawn(pairs, judge)
    with Endpoint(judge) as endpoint:
        pair_judge = PairJudge(judge, endpoint, JudgeJournal(directory / JOURNAL), say)
        found = pair_judge.verdicts(chosen, "pair")
        agreed = _agreement(judge, pair_judge)
    order = {pair.id: number for number, pair in enumerate(pairs)}
    judgement = PairwiseJudgement(
        model=judge.model,
        before=roles[0],
        after=roles[1],
        pairs=tuple(sorted(found, key=lambda pair: order[pair.prompt_id])),
        drawn=len(chosen),
        left_out=len(pairs) - len(found),
        input_tokens=pair_judge.input_tokens,
        output_tokens=pair_judge.output_tokens,
        uncounted=pair_judge.uncounted,
        cost=pair_judge.cost if judge.input_price or judge.output_price else None,
        agreement=agreed,
    )
    return outcome.model_copy(update={"judgement": judgement})


def _pairs(outcome: EvaluationOutcome, before: Role, after: Role) -> list[AnswerPair]:
    def of(role: Role) -> dict[str, ModelAnswer]:
        return {answer.prompt_id: answer for answer in outcome.answers if answer.role == role}

    theirs = of(before)
    return [
        AnswerPair(id_, answer.prompt, theirs[id_].text, answer.text)
        for id_, answer in of(after).items()
        if id_ in theirs
    ]


def _drawn(pairs: Sequence[AnswerPair], judge: Judge) -> list[AnswerPair]:
    """Return as many pairs as may be judged, in random order for the case of a cost limit."""

    def draw(pair: AnswerPair) -> str:
        return sha256(f"{judge.seed}\0{pair.id}".encode()).hexdigest()

    return sorted(pairs, key=draw)[: judge.max_pairs]


def _agreement(judge: Judge, pair_judge: PairJudge) -> Agreement | None:
    if judge.ratings is None:
        return None
    rated, _ = choose_rated(judge.ratings, judge.max_pairs, seed=judge.seed)
    numbered = {str(number): pair for number, pair in enumerate(rated)}
    pairs = [AnswerPair(n, each.prompt, each.before, each.after) for n, each in numbered.items()]
    found = [pair for pair in pair_judge.verdicts(pairs, "rated pair") if pair.winner is not None]
    people = [numbered[pair.prompt_id].preferred for pair in found]
    return agreement(people, [pair.winner for pair in found if pair.winner is not None])
