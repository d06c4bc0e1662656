"""A gateway as another one's engine: what the first one takes, the second one takes from it."""

from collections.abc import Iterator

import pytest

from tasks.core.serving.engines.request import OPTIONAL_FIELDS
from tests.unit.serving.gateway.world import (
    MESSAGES,
    MODEL_NAME,
    PROMPT,
    Door,
    Gateway,
    a_route,
)


@pytest.fixture(scope="module")
def front(door: Door, model, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway before the one of the door."""
    route = a_route(model, [door.url], takes=sorted(OPTIONAL_FIELDS))
    gateway = Gateway(tmp_path_factory.mktemp("front"), route)
    yield gateway
    gateway.end()


def test_an_answer_comes_through_both(front, reference):
    asked = {"model": MODEL_NAME, "messages": MESSAGES, "temperature": 0, "max_tokens": 12}
    whole = front.client().chat.completions.create(**asked).choices[0].message.content
    assert whole == reference(PROMPT)
    stream = front.client().chat.completions.create(stream=True, **asked)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in stream) == whole


@pytest.mark.parametrize("stream", [False, True])
def test_log_probabilities_of_the_prompt_come_through_both(front, reference, stream):
    ids = reference.ids("modal usaha")
    asked = {"model": MODEL_NAME, "prompt": ids, "max_tokens": 4, "temperature": 0}
    body = {"prompt_logprobs": 0}
    answer = front.client().completions.create(**asked, stream=stream, extra_body=body)
    choice = (next(iter(answer)) if stream else answer).choices[0]
    found = [
        each[str(token)]["logprob"]
        for token, each in zip(ids, choice.prompt_logprobs, strict=True)
        if each
    ]
    assert found == pytest.approx(reference.prompt_logprobs(ids), abs=1e-4)


def test_as_many_log_probabilities_as_a_client_may_ask_for_come_through_both(front):
    answer = front.chat(logprobs=True, top_logprobs=20)
    assert answer.status_code == 200, answer.text


def test_as_many_stops_as_the_engine_takes_come_through_both(front, door):
    """vLLM takes OpenAI's four."""
    most = 4 if door.engine == "vllm" else 16
    stops = [f"zz{number}" for number in range(16)]
    assert front.chat(stop=stops[:most]).status_code == 200
    answer = front.chat(stop=stops)
    if most < len(stops):
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, "stop")
        assert "`vllm` accepts 4 texts" in answer.json()["message"]
    else:
        assert answer.status_code == 200, answer.text


def test_a_field_that_the_second_ones_engine_lacks_is_named(front, door):
    for name in ("min_p", "presence_penalty"):
        answer = front.chat(**{name: 0.5})
        if name in door.takes:
            assert answer.status_code == 200, answer.text
        else:
            assert (answer.status_code, answer.json()["error"]["param"]) == (400, name)
