"""What a new model is asked before it serves, and beside whose answers its own are shown."""

from pathlib import Path

import pytest

from tasks.core.errors import ServingFailed
from tasks.core.recipe import Deploy
from tasks.core.serving.gateway.prompts import Prompts, PromptTurn
from tasks.core.serving.gateway.recent import RecentAnswer
from tasks.core.serving.launch.shadow import ShadowQuestions, questions, replay
from tasks.core.serving.state.directory import StateDirectory
from tasks.core.serving.state.record import Deployment
from tests.deployments import deployment
from tests.unit.serving.gateway.world import CONTEXT, Engine, free_port

PROMPTS = ("Apa itu NIB?", "Tulis judul tentang nasi bakar.", "Berapa modal warung?")


@pytest.fixture
def wanted(engine: Engine, model: Path, tmp_path: Path) -> Deployment:
    """The record of a deployment whose engine this is."""
    return record(tmp_path, model, engine.port)


def record(
    root: Path, model: Path, port: int, shadow_requests: int = 8, **settings: object
) -> Deployment:
    return deployment(
        StateDirectory(root / "kawan"),
        model=model,
        engine_port=port,
        context_tokens=CONTEXT,
        settings=Deploy(shadow_requests=shadow_requests, **settings),
    )


def silent(_: str) -> None:
    pass


def asked(engine: Engine) -> list[dict]:
    return engine.state()["asked"]


def recent(prompt: list[int], text: str, **fields: object) -> RecentAnswer:
    request = {"model": "x", "prompt": prompt, "max_tokens": 500, "temperature": 0, "stop": []}
    request |= {"stop_token_ids": [], "stream": True, **fields}
    return RecentAnswer(build="b0", request=request, text=text, finish_reason="stop")


def test_the_last_requests_are_asked_again_and_no_prompts_beside(engine, wanted):
    last = [recent([1, 5, 6], "satu"), recent([1, 7, 8], "dua")]
    found = questions(last, PROMPTS, wanted, wanted, say=silent)
    asked(engine)
    shadow = replay(found, wanted, say=silent)
    assert found.source == "requests"
    assert [answer.earlier for answer in shadow] == ["satu", "dua"]
    assert sorted(each["prompt"] for each in asked(engine)) == [[1, 5, 6], [1, 7, 8]]


REFUSED = [
    ("fastchat", recent([1], "", min_p=0.5), "`min_p` is not supported by the engine `fastchat`"),
    ("vllm", recent([1], "", stop=["a", "b", "c", "d", "e"]), "`vllm` accepts 4 texts"),
    ("fastchat", recent([5] * CONTEXT, ""), f"maximum context length is {CONTEXT} tokens"),
    ("fastchat", recent([1], "", of_an_earlier_gateway=1), "`of_an_earlier_gateway` is not a"),
]


@pytest.mark.parametrize(("name", "request_before", "why"), REFUSED)
def test_what_the_new_gateway_would_refuse_is_left_out_and_told(
    wanted, tmp_path, name, request_before, why
):
    """It must not fail the switch: its clients get a 400, as for any such field."""
    new = record(tmp_path, wanted.model, wanted.engine_port, engine=name)
    last = [request_before, recent([1, 7, 8], "dua", seed=7, logprobs=2)]
    told: list[str] = []
    found = questions(last, PROMPTS, new, wanted, say=told.append)
    (question,) = found.all
    request = question.request
    assert question.earlier == "dua"
    assert (request["prompt"], request["seed"], request["logprobs"]) == ([1, 7, 8], 7, 2)
    assert told == [found.not_asked]
    assert found.not_asked.startswith("1 of the last 2 requests are not repeated")
    assert why in found.not_asked


def test_where_none_of_the_last_requests_can_be_asked_both_answer_the_prompts(wanted):
    last = [recent([1, 5, 6], "satu", min_p=0.5), recent([1, 5, 6], "dua", min_p=0.25)]
    found = questions(last, PROMPTS, wanted, wanted, say=silent)
    assert found.source == "prompts"
    assert [each.asked for each in found.all] == list(PROMPTS)
    assert found.not_asked.count("min_p") == 1


def test_an_answer_is_no_longer_than_the_gateway_allows(engine, wanted, tmp_path):
    short = record(
        tmp_path,
        wanted.model,
        wanted.engine_port,
        gateway={"max_answer_tokens": 5, "default_answer_tokens": 5},
    )
    asked(engine)
    replay(questions([recent([1, 5, 6], "satu")], (), short, wanted, say=silent), short, say=silent)
    replay(questions([], PROMPTS[:1], short, None, say=silent), short, say=silent)
    assert [each["max_tokens"] for each in asked(engine)] == [5, 5]


def test_where_nobody_has_asked_both_answer_the_prompts_in_their_template(engine, wanted):
    asked(engine)
    found = questions([], PROMPTS, wanted, wanted, say=silent)
    shadow = replay(found, wanted, say=silent)
    assert found.source == "prompts"
    assert [answer.asked for answer in shadow] == list(PROMPTS)
    assert all(answer.new and answer.new == answer.earlier for answer in shadow)
    (request, *others) = asked(engine)
    assert len(others) == 2 * len(PROMPTS) - 1
    assert (request["temperature"], request["max_tokens"]) == (0, 48)
    prompts = Prompts(wanted.model, wanted.template, CONTEXT)
    expected = [prompts.ids_now(prompts.text([PromptTurn("user", text)])) for text in PROMPTS]
    assert sorted(each["prompt"] for each in (request, *others)) == sorted(2 * expected)


def test_a_first_deployment_shows_what_it_answers_alone(wanted):
    shadow = replay(questions([], PROMPTS, wanted, None, say=silent), wanted, say=silent)
    assert [answer.earlier for answer in shadow] == [None] * 3
    assert all(answer.new for answer in shadow)


def test_an_earlier_model_that_no_longer_answers_keeps_none_from_taking_over(wanted, tmp_path):
    gone = record(tmp_path, wanted.model, free_port())
    shadow = replay(questions([], PROMPTS, wanted, gone, say=silent), wanted, say=silent)
    assert [answer.earlier for answer in shadow] == [None] * 3


def test_a_new_model_that_does_not_answer_does_not_get_to_serve(wanted, tmp_path):
    gone = record(tmp_path, wanted.model, free_port())
    with pytest.raises(ServingFailed):
        replay(questions([], PROMPTS, gone, None, say=silent), gone, say=silent)


@pytest.mark.parametrize(("count", "expected"), [(0, ()), (2, PROMPTS[:2])])
def test_as_many_are_asked_as_the_recipe_says(wanted, tmp_path, count, expected):
    few = record(tmp_path, wanted.model, wanted.engine_port, shadow_requests=count)
    found = questions([], PROMPTS, few, None, say=silent)
    assert tuple(each.asked for each in found.all) == expected


def test_a_prompt_that_leaves_no_room_is_left_out(wanted):
    long = "usaha " * CONTEXT
    found = questions([], (long, PROMPTS[0]), wanted, wanted, say=silent)
    assert [each.asked for each in found.all] == [PROMPTS[0]]


def test_nothing_to_ask_is_no_fault(wanted):
    found = questions([], (), wanted, None, say=silent)
    assert replay(found, wanted, say=silent) == ()
    assert found == ShadowQuestions("prompts", ())
