"""The control socket: a switch that loses nothing, and what a deployment has to know."""

import json
import stat
import threading

import httpx
import pytest

from tasks.core.errors import NotAModel, RecipeError, ServingFailed
from tasks.core.serving.gateway.control import GatewayBusy, GatewayControl
from tests.models import tiny_llama
from tests.unit.serving.gateway.world import (
    LONG,
    MESSAGES,
    MODEL_NAME,
    Gateway,
    a_route,
    engine_in,
    until,
)


@pytest.fixture(scope="module")
def second_engine(tmp_path_factory, model):
    with engine_in(tmp_path_factory.mktemp("green"), model) as started:
        yield started


@pytest.fixture
def green(second_engine):
    """An engine beside the first, with nothing to do and its past forgotten."""
    until(lambda: second_engine.state()["running"] == 0)
    return second_engine


@pytest.fixture
def two(start, model, engine, green):
    """A gateway routed to blue, with a second engine for green."""
    return start(Gateway, a_route(model, [engine.url]), shadow_requests=3), engine, green


@pytest.fixture(scope="module")
def steady(tmp_path_factory, model, shared_engine):
    """A gateway whose route no test may change."""
    route = a_route(model, [shared_engine.url])
    gateway = Gateway(tmp_path_factory.mktemp("steady"), route)
    yield gateway
    gateway.end()


def in_flight(gateway: Gateway, slot: str) -> dict[str, int]:
    return gateway.control.state().in_flight.get(slot, {})


@pytest.mark.slow
def test_a_switch_under_load_loses_no_request_and_no_token(two, model):
    gateway, blue, green = two
    answers, ends = [], threading.Event()

    def ask(stream: bool) -> None:
        body = {"model": MODEL_NAME, "messages": MESSAGES, "max_tokens": 20, "temperature": 0}
        with httpx.Client(timeout=60) as client:
            while not ends.is_set():
                url = f"{gateway.url}/v1/chat/completions"
                answer = client.post(url, json=body | {"stream": stream})
                answers.append((stream, answer.status_code, said(answer, stream)))

    def said(answer: httpx.Response, stream: bool) -> str:
        if not stream:
            return answer.json()["choices"][0]["message"]["content"]
        events = [line[6:] for line in answer.text.splitlines() if line.startswith("data: {")]
        deltas = [json.loads(event)["choices"][0]["delta"] for event in events]
        return "".join(delta.get("content", "") for delta in deltas)

    threads = [threading.Thread(target=ask, args=(n % 2 == 0,)) for n in range(8)]
    for thread in threads:
        thread.start()
    slots = [("green", green), ("blue", blue), ("green", green)]
    for slot, engine in slots:
        until(lambda: len(answers) % 8 == 0)
        gateway.write_routes(a_route(model, [engine.url], slot=slot, build=slot))
        assert gateway.control.follow_routes().route.slot == slot
        other = "blue" if slot == "green" else "green"
        until(lambda other=other: not any(in_flight(gateway, other).values()))
        asked_meanwhile = len(answers) + 16
        until(lambda n=asked_meanwhile: len(answers) >= n)
    ends.set()
    for thread in threads:
        thread.join()
    assert {status for _, status, _ in answers} == {200}
    assert len({text for _, _, text in answers}) == 1


def test_a_slot_that_nothing_is_routed_to_is_counted_until_its_streams_have_ended(two, model):
    gateway, blue, green = two
    blue.misbehave(None, pace_s=2)  # so that the stream outlasts all that is looked at
    stream = gateway.client().chat.completions.create(
        model=MODEL_NAME, messages=MESSAGES, max_tokens=30, temperature=0, stream=True
    )
    next(stream)
    gateway.write_routes(a_route(model, [green.url], slot="green"))
    gateway.control.follow_routes()
    assert gateway.control.state().in_flight == {"green": {"e0": 0}, "blue": {"e0": 1}}
    assert gateway.metric("kawan_usaha_in_flight", slot="blue") == 1
    assert gateway.chat().status_code == 200
    assert len(green.state()["asked"]) == 1
    blue.misbehave(None, pace_s=0)
    *_, last = stream
    assert last.choices[0].finish_reason == "length"
    assert gateway.control.state().in_flight["blue"] == {"e0": 0}


def test_who_waits_while_the_route_changes_is_asked_of_the_new_one_in_its_template(
    start, model, engine, green
):
    gateway = start(Gateway, a_route(model, [engine.url]), gateway={"max_running": 1})
    engine.misbehave(None, pace_s=0.05)
    waiting: list[httpx.Response] = []
    with httpx.Client(timeout=60) as client:
        url = f"{gateway.url}/v1/chat/completions"
        with client.stream("POST", url, json=LONG | {"stream": True}) as first:
            pieces = first.iter_bytes()  # kept: httpx closes what is let go
            next(pieces)
            thread = threading.Thread(target=lambda: waiting.append(gateway.chat(max_tokens=2)))
            thread.start()
            until(lambda: gateway.control.state().waiting == 1)
            gateway.write_routes(a_route(model, [green.url], slot="green", template="zero_shot"))
            gateway.control.follow_routes()
        thread.join()
    assert waiting[0].status_code == 200, waiting[0].text
    (asked,) = green.state()["asked"]
    assert asked["stop"] == ["###"]


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"template": "vicuna_v9"}, RecipeError),
        ({"model": "/nowhere", "build": "b2"}, NotAModel),
        ({"slot": 5}, ServingFailed),
    ],
)
def test_a_route_that_cannot_be_used_leaves_the_one_in_use(steady, model, engine, change, error):
    steady.write_routes(a_route(model, [engine.url], **change))
    with pytest.raises(error):
        steady.control.follow_routes()
    assert steady.control.state().route.template == "vicuna_v1.1"
    assert steady.chat().status_code == 200


def test_a_gateway_whose_routes_cannot_be_read_at_start_serves_once_they_can(start, model, engine):
    gateway = start(Gateway, a_route(model, [engine.url], template="vicuna_v9"))
    assert gateway.chat().status_code == 503
    gateway.write_routes(a_route(model, [engine.url]))
    gateway.control.follow_routes()
    assert gateway.chat().status_code == 200


def test_another_model_in_the_same_directory_has_its_tokenizer_read(start, tmp_path, engine):
    directory = tiny_llama(tmp_path / "model")
    gateway = start(Gateway, a_route(directory, [engine.url]))
    (directory / "tokenizer.json").unlink()
    gateway.write_routes(a_route(directory, [engine.url], build="b2"))
    with pytest.raises(NotAModel):
        gateway.control.follow_routes()


def test_the_last_answers_are_remembered_without_the_probes(two):
    gateway, engine, _ = two
    answered = []
    for word in ("satu", "dua", "tiga", "empat"):
        messages = [{"role": "user", "content": word}]
        said = gateway.client().chat.completions.create(
            model=MODEL_NAME, messages=messages, max_tokens=4, stream=word == "dua"
        )
        if word == "dua":
            answered.append("".join(part.choices[0].delta.content or "" for part in said))
        else:
            answered.append(said.choices[0].message.content)
    assert gateway.chat(max_tokens=1).status_code == 200
    asked = engine.state()["asked"]
    recent = gateway.control.recent()
    assert [answer.request["prompt"] for answer in recent] == [a["prompt"] for a in asked[1:4]]
    assert [answer.text for answer in recent] == answered[1:]
    assert recent[-1].request["temperature"] == 0.7
    assert {answer.build for answer in recent} == {"b1"}
    assert {answer.finish_reason for answer in recent} <= {"stop", "length"}


def test_incidents_are_counted_and_logged(gateway):
    gateway.control.incident("hanging-engine", "blue gave no token\nin 60 s")
    assert gateway.metric("kawan_usaha_incidents_total", kind="hanging-engine") == 1
    assert "incident hanging-engine: 'blue gave no token\\nin 60 s'" in gateway.text


def test_only_its_owner_can_reach_the_control_socket(gateway):
    mode = gateway.control_socket.stat().st_mode
    assert stat.S_ISSOCK(mode)
    assert stat.S_IMODE(mode) == 0o600
    for path in ("/state", "/recent", "/routes", "/incidents"):
        assert httpx.get(f"{gateway.url}{path}").status_code == 404


def test_a_token_is_asked_for_over_the_control_socket(gateway, engine):
    gateway.control.generate_token(MODEL_NAME, timeout_s=60)
    assert engine.state()["asked"][0]["max_tokens"] == 1
    engine.misbehave("500", times=2)
    with pytest.raises(ServingFailed, match="does not answer"):
        gateway.control.generate_token(MODEL_NAME, timeout_s=60)
    engine.misbehave("429", times=2)
    with pytest.raises(GatewayBusy):
        gateway.control.generate_token(MODEL_NAME, timeout_s=60)


def test_without_a_gateway_the_client_says_so(tmp_path):
    with pytest.raises(ServingFailed):
        GatewayControl(tmp_path / "none.sock").state()
