import json
import logging
import socket
import traceback
from collections.abc import Iterator

import pytest
from pydantic import ValidationError

from tasks.core.errors import JudgeRefused, JudgeUnavailable
from tasks.core.evaluation import judge_endpoint
from tasks.core.evaluation.judge_endpoint import Endpoint, require_key
from tasks.core.evaluation.judge_question import question_about
from tasks.core.recipe import Evaluate, Gate, Judge
from tests.judges import JudgeServer, Said, completion

QUESTION = question_about("Apa itu NIB?", "Nomor induk.", "Tidak tahu.", seed=1).text
KEY = "sk-rahasia-0123456789"


@pytest.fixture
def server() -> Iterator[JudgeServer]:
    server = JudgeServer()
    yield server
    server.close()


@pytest.fixture(autouse=True)
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses that were made, without the time that they take."""
    made: list[float] = []
    monkeypatch.setattr("tasks.core.retry.pause", made.append)
    return made


def ask(server: JudgeServer, **settings: object) -> judge_endpoint.Reply:
    judge = Judge.model_validate({"model": "hakim", "url": server.url, **settings})
    with Endpoint(judge) as endpoint:
        return endpoint.ask(QUESTION, lambda: True)


def test_nobody_at_the_address_is_told_after_all_tries(waits: list[float]) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # taken, and never listens
        url = f"http://127.0.0.1:{nobody.getsockname()[1]}/v1"
        with (
            Endpoint(Judge(model="hakim", url=url)) as endpoint,
            pytest.raises(JudgeUnavailable, match="ConnectError") as told,
        ):
            endpoint.ask(QUESTION, lambda: False)
    assert told.value.retryable
    assert waits == list(judge_endpoint.RETRY_WAITS_S)


def test_too_many_requests_wait_as_long_as_the_server_says(
    server: JudgeServer, waits: list[float]
) -> None:
    server.instead = [Said(429, b"slow", {"Retry-After": "7"}), Said(503, b"<html>busy")]
    assert ask(server).input_tokens == 100
    assert waits == [7.0, judge_endpoint.RETRY_WAITS_S[1]]


@pytest.mark.parametrize("after", ["86400", "Wed, 21 Oct 2026 07:28:00 GMT", "nan", "-3", "soon"])
def test_a_wait_that_is_no_good_ends_in_words(server: JudgeServer, after: str) -> None:
    server.instead = [Said(429, b"slow", {"Retry-After": after})] * 10
    with pytest.raises(JudgeUnavailable, match="found: 429"):
        ask(server)


@pytest.mark.parametrize(
    "said",
    [
        Said(401, b'{"error": "no such key"}'),
        Said(404, b"no such model"),
        Said(302, b"", {"Location": "http://127.0.0.1:9/v1/chat/completions"}),
        Said(200, b"<html>login</html>"),
        Said(200, b'{"choices": []}'),
        Said(200, b'{"choices": [{"message": {"content": 3}}]}'),
        Said(200, b"\xff\xfe"),
    ],
)
def test_what_another_try_does_not_change_is_refused_at_once(
    server: JudgeServer, said: Said
) -> None:
    server.instead = [said]
    with pytest.raises(JudgeRefused, match=f"found: .*{said.status}"):
        ask(server)
    assert len(server.requests) == 1


@pytest.mark.parametrize("status", [200, 401, 429])
def test_what_people_wrote_is_in_no_error_where_a_server_repeats_it(
    server: JudgeServer, status: int
) -> None:
    error = {"message": "Apa itu NIB?", "type": "Apa itu NIB?", "code": "rate_limit_exceeded"}
    server.instead = [Said(status, json.dumps({"error": error}).encode())] * 10
    with pytest.raises((JudgeRefused, JudgeUnavailable)) as told:
        ask(server)
    assert "NIB" not in "".join(traceback.format_exception(told.value))
    assert status == 200 or "rate_limit_exceeded" in str(told.value)


def test_a_reply_without_end_is_not_read_to_its_end(
    server: JudgeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(judge_endpoint, "MAX_REPLY_BYTES", 1 << 16)
    server.instead = [Said(200, b" " * (1 << 18))]
    with pytest.raises(JudgeRefused, match="a reply of more than 65536 bytes"):
        ask(server)


@pytest.mark.parametrize("value", ["", " ", "a\nb", "kunci\u00e9"])
def test_without_a_key_nothing_is_asked(
    server: JudgeServer, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HAKIM_KEY", value)
    with pytest.raises(JudgeRefused, match="HAKIM_KEY"):
        ask(server, key_variable="HAKIM_KEY")
    assert server.requests == []


def test_a_variable_that_is_not_set_is_named(
    server: JudgeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HAKIM_KEY", raising=False)
    with pytest.raises(JudgeRefused, match="HAKIM_KEY"):
        require_key(Judge(model="m", url=server.url, key_variable="HAKIM_KEY"))


def test_the_key_is_in_a_header_and_in_no_error_or_log(
    server: JudgeServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("HAKIM_KEY", KEY)
    server.instead = [Said(401, f"Incorrect API key: {KEY}".encode())]
    with pytest.raises(JudgeRefused) as told:
        ask(server, key_variable="HAKIM_KEY")
    sent = {name.lower(): value for name, value in server.headers[0].items()}
    assert sent["authorization"] == f"Bearer {KEY}"
    assert KEY not in str(told.value)
    assert KEY not in json.dumps(told.value.as_dict())
    assert KEY not in caplog.text


def test_a_model_that_thinks_is_asked_without_what_it_does_not_know(server: JudgeServer) -> None:
    server.instead = [
        Said(400, b'{"error": {"message": "Unsupported parameter: max_tokens"}}'),
        Said(400, b'{"error": {"message": "temperature does not support 0"}}'),
        completion("{}"),
    ]
    ask(server, max_reply_tokens=99)
    assert server.requests[0]["max_tokens"] == 99
    assert server.requests[-1]["max_completion_tokens"] == 99
    assert not {"max_tokens", "temperature"} & server.requests[-1].keys()


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"url": "api.example.com/v1"}, "address of an endpoint"),
        ({"url": "https://user:pw@api.example.com"}, "no place in an address"),
        ({"url": "https://api.example.com?api_key=x"}, "no place in an address"),
        ({"url": "http://api.example.com", "key_variable": "K"}, "over https only"),
        ({"key_variable": KEY}, "key_variable"),
        ({"max_cost": 1.0}, "needs input_price"),
    ],
)
def test_a_recipe_with_a_key_in_it_or_half_a_limit_is_refused(
    wrong: dict[str, object], why: str
) -> None:
    with pytest.raises(ValidationError, match=why) as told:
        Judge.model_validate({"model": "m", "url": "https://api.example.com/v1", **wrong})
    assert KEY not in str(told.value)


def test_a_limit_for_a_judge_needs_one() -> None:
    with pytest.raises(ValidationError, match=r"name one in evaluate\.judge"):
        Evaluate(gate=Gate(min_judge_win_rate=0.5))


def test_tokens_that_are_not_told_by_kind_are_not_told(server: JudgeServer) -> None:
    body = json.loads(completion("{}").body) | {"usage": {"total_tokens": 900}}
    server.instead = [Said(body=json.dumps(body).encode())]
    found = ask(server)
    assert (found.input_tokens, found.output_tokens) == (None, None)
