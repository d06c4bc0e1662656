"""What is kept through the gateway: with consent only, whole answers only, never at their cost."""

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tasks.core.collected.keeper import CollectionLimits, Keeper
from tasks.core.collected.review.reading import Collected, read_collected
from tasks.core.collected.storage.directory import directory_lock
from tests.unit.collected.test_keeper import offered
from tests.unit.serving.gateway.world import LONG, MODEL_NAME, Engine, Gateway, a_route, until

SAID = [{"role": "user", "content": "Nama saya Siti, WA 0812-3456-7890. apa kabar"}]
COLLECT = {"retention_days": 30, "max_bytes": 1_000_000}
AGREED = {"store": True, "user": "siti-7"}


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("deployment") / "collected"


@pytest.fixture(scope="module")
def collecting(
    tmp_path_factory: pytest.TempPathFactory, model: Path, shared_engine: Engine, directory: Path
) -> Any:
    gateway = Gateway(
        tmp_path_factory.mktemp("gateway"),
        a_route(model, [shared_engine.url]),
        collected=str(directory),
        collect=COLLECT,
    )
    yield gateway
    gateway.end()


@pytest.fixture
def gateway(collecting: Gateway, engine: Engine, directory: Path) -> Gateway:
    """One that collects, with nothing collected yet."""
    for path in directory.glob("*.jsonl"):
        path.unlink()
    return collecting


def asked(gateway: Gateway, **fields: Any) -> dict[str, Any]:
    body = {"model": MODEL_NAME, "messages": SAID, "max_tokens": 4, "temperature": 0, **fields}
    answer = gateway.post("/v1/chat/completions", body)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def kept(gateway: Gateway, directory: Path) -> list[Collected]:
    """What is kept once all that came before is on the disk: deleting waits for it."""
    gateway.post("/v1/forget", {"user": "nobody"}).raise_for_status()
    return list(read_collected(directory))


def test_nothing_is_written_without_consent(gateway, directory):
    asked(gateway)
    asked(gateway, user="siti-7", store=False)
    asked(gateway, user="siti-7", store=None)
    asked(gateway, user=["of", "any", "kind"])
    assert kept(gateway, directory) == []
    gateway.client().completions.create(model=MODEL_NAME, prompt="Nama saya Siti", max_tokens=2)
    assert kept(gateway, directory) == []
    everything = [path for path in gateway.directory.rglob("*") if path.is_file()]
    assert all(b"Siti" not in path.read_bytes() for path in (*everything, *directory.rglob("*")))


def test_with_consent_the_answer_is_kept_without_what_points_at_the_person(gateway, directory):
    found = asked(gateway, **AGREED)
    (only,) = kept(gateway, directory)
    assert only.answer.id == found["id"]
    assert only.answer.answer == found["choices"][0]["message"]["content"]
    assert only.answer.messages[0].content == "Nama saya [nama], WA [telepon]. apa kabar"
    assert (only.answer.model, only.answer.build) == (MODEL_NAME, "b1")
    assert b"siti" not in b"".join(path.read_bytes() for path in directory.glob("*.jsonl")).lower()


def test_a_header_counts_as_consent(gateway, directory):
    body = {"model": MODEL_NAME, "messages": SAID, "max_tokens": 4, "user": "siti-7"}
    headers = {"X-Kawan-Usaha-Consent": "store"}
    found = gateway.post("/v1/chat/completions", body, headers=headers).json()
    assert [each.answer.id for each in kept(gateway, directory)] == [found["id"]]


@pytest.mark.parametrize("store", [False, None])
def test_a_header_does_not_outweigh_what_the_body_says(gateway, directory, store):
    body = {"model": MODEL_NAME, "messages": SAID, "max_tokens": 4, "user": "x", "store": store}
    headers = {"X-Kawan-Usaha-Consent": "store"}
    gateway.post("/v1/chat/completions", body, headers=headers).raise_for_status()
    assert kept(gateway, directory) == []


def test_a_stream_is_kept_as_the_client_has_read_it(gateway, directory):
    stream = gateway.client().chat.completions.create(
        model=MODEL_NAME, messages=SAID, max_tokens=5, stream=True, store=True, user="siti-7"
    )
    chunks = list(stream)
    text = "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
    (only,) = kept(gateway, directory)
    assert (only.answer.id, only.answer.answer) == (chunks[0].id, text)


def test_an_answer_that_was_cut_is_kept_as_one(gateway, directory):
    found = asked(gateway, **AGREED)
    assert found["choices"][0]["finish_reason"] == "length"
    assert [each.answer.cut for each in kept(gateway, directory)] == [True]


def test_an_answer_that_is_rated_at_once_is_there_already(gateway, directory):
    for _ in range(3):
        found = asked(gateway, **AGREED)
        rating = {"id": found["id"], "user": "siti-7", "verdict": "down", "correction": "Hai Siti"}
        answer = gateway.post("/v1/feedback", rating)
        assert (answer.status_code, answer.content) == (204, b"")
    ratings = [each.rating for each in kept(gateway, directory)]
    assert [(each.verdict, each.correction) for each in ratings if each] == [
        ("down", "Hai [nama]")
    ] * 3


def test_a_stream_whose_client_leaves_is_not_kept(gateway, engine, directory):
    client = gateway.ask_and_wait({**LONG, **AGREED, "stream": True})
    until(gateway.computes)
    client.close()
    until(lambda: not gateway.computes())
    assert kept(gateway, directory) == []


@pytest.mark.parametrize("stream", [False, True])
def test_a_stream_that_the_engine_breaks_off_is_not_kept(gateway, engine, directory, stream):
    engine.misbehave("error-in-stream", times=1)
    body = {
        "model": MODEL_NAME,
        "messages": SAID,
        "max_tokens": 50,
        "temperature": 0,
        "stream": stream,
        **AGREED,
    }
    answer = gateway.post("/v1/chat/completions", body)
    assert answer.status_code != 200 or "error" in answer.text
    assert kept(gateway, directory) == []


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"store": True}, "user"),
        ({"store": True, "user": ""}, "user"),
        ({"store": True, "user": 7}, "user"),
        ({"store": True, "user": "x" * 257}, "user"),
        ({"store": "yes", "user": "siti-7"}, "store"),
        ({**AGREED, "n": 2, "temperature": 1}, "n"),
        ({**AGREED, "messages": "apa kabar"}, "messages"),
        (
            {**AGREED, "messages": [*SAID, {"role": "assistant", "content": "Ka"}]},
            "messages",
        ),
    ],
)
def test_what_cannot_be_kept_is_refused_by_name(gateway, directory, fields, param):
    body = {"model": MODEL_NAME, "messages": SAID, "max_tokens": 4, **fields}
    answer = gateway.post("/v1/chat/completions", body)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param
    assert kept(gateway, directory) == []


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"id": "chatcmpl-none"}, 404),
        ({"user": "budi-3"}, 404),
        ({"id": "../salt"}, 400),
        ({"user": None}, 400),
        ({"verdict": None}, 400),
        ({"verdict": "good"}, 400),
        ({"verdict": None, "correction": "  "}, 400),
        ({"correction": "x" * 20_001}, 400),
        ({"reviewer": "siti"}, 400),
    ],
)
def test_a_rating_that_cannot_be_meant_is_refused(gateway, directory, changes, status):
    found = asked(gateway, **AGREED)
    rating = {"id": found["id"], "user": "siti-7", "verdict": "up", **changes}
    assert gateway.post("/v1/feedback", rating).status_code == status
    (only,) = kept(gateway, directory)
    assert only.rating is None


def test_an_answer_that_was_rated_twenty_times_is_rated_no_more(gateway, directory):
    rating = {"id": asked(gateway, **AGREED)["id"], "user": "siti-7", "verdict": "up"}
    statuses = [gateway.post("/v1/feedback", rating).status_code for _ in range(21)]
    assert statuses == [204] * 20 + [409]


def test_ratings_wait_in_small_numbers_and_an_id_of_another_form_does_not_wait(gateway, directory):
    rating = {"id": asked(gateway, **AGREED)["id"], "user": "siti-7", "verdict": "up"}
    kept(gateway, directory)
    with ThreadPoolExecutor(12) as clients:
        with directory_lock(directory, "a test"):
            sent = [clients.submit(gateway.post, "/v1/feedback", rating) for _ in range(12)]
            until(lambda: sum(each.done() for each in sent) == 4)
            assert {each.result().status_code for each in sent if each.done()} == {503}
            unknown = gateway.post("/v1/feedback", rating | {"id": "chatcmpl-none"})
            assert unknown.status_code == 404
            found = asked(gateway, **AGREED)["id"]
        assert sorted(each.result().status_code for each in sent) == [204] * 8 + [503] * 4
    assert kept(gateway, directory)[-1].answer.id == found


def test_whoever_asks_is_forgotten_and_nobody_else(gateway, directory):
    asked(gateway, **AGREED)
    asked(gateway, **AGREED)
    theirs = asked(gateway, store=True, user="budi-3")
    answer = gateway.post("/v1/forget", {"user": "siti-7"})
    assert answer.json() == {"deleted": 2}
    assert [each.answer.id for each in kept(gateway, directory)] == [theirs["id"]]
    assert gateway.post("/v1/forget", {"user": "siti-7"}).json() == {"deleted": 0}


def test_an_answer_that_runs_while_its_person_is_forgotten_is_not_kept(gateway, engine, directory):
    engine.misbehave(None, pace_s=0.1)  # 4 s for what is not much to compute
    client = gateway.ask_and_wait({**LONG, **AGREED, "max_tokens": 40, "stream": True})
    until(gateway.computes)
    gateway.post("/v1/forget", {"user": "siti-7"}).raise_for_status()
    until(lambda: not gateway.computes())
    client.close()
    assert kept(gateway, directory) == []


def test_where_a_deployment_does_not_collect_consent_is_refused(start, model, engine, tmp_path):
    quiet = start(Gateway, a_route(model, [engine.url]), collected=str(tmp_path / "collected"))
    body = {"model": MODEL_NAME, "messages": SAID, "max_tokens": 4}
    refused = quiet.post("/v1/chat/completions", {**body, **AGREED})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "store")
    assert quiet.post("/v1/chat/completions", {**body, "user": "siti-7"}).status_code == 200
    assert quiet.post("/v1/forget", {"user": "siti-7"}).json() == {"deleted": 0}
    assert not (tmp_path / "collected").exists()


def test_what_was_kept_before_can_be_deleted_where_nothing_new_is(start, model, engine, tmp_path):
    directory = tmp_path / "collected"
    Keeper(directory, CollectionLimits(90, 10**9)).keep(offered(user="siti-7"))
    quiet = start(Gateway, a_route(model, [engine.url]), collected=str(directory))
    assert quiet.post("/v1/forget", {"user": "siti-7"}).json() == {"deleted": 1}
    assert list(read_collected(directory)) == []


def test_an_answer_goes_out_where_it_cannot_be_kept(gateway, directory, monkeypatch):
    asked(gateway, **AGREED)
    kept(gateway, directory)
    salt = (directory / "salt").read_bytes()
    before = gateway.metric("kawan_usaha_incidents_total", kind="collected-not-kept")
    (directory / "salt").write_bytes(b"damaged")
    try:
        found = asked(gateway, **AGREED)
        rating = {"id": found["id"], "user": "siti-7", "verdict": "up"}
        answer = gateway.post("/v1/feedback", rating)
    finally:
        (directory / "salt").write_bytes(salt)
    assert answer.status_code in (404, 503)
    until(lambda: gateway.metric("kawan_usaha_incidents_total", kind="collected-not-kept") > before)
    assert "collected-not-kept" in gateway.text
    assert "Siti" not in gateway.text
    assert len(kept(gateway, directory)) == 1


def test_an_answer_does_not_wait_for_who_holds_the_lock(gateway, directory):
    asked(gateway, **AGREED)
    kept(gateway, directory)
    with directory_lock(directory, "a test"):
        found = [asked(gateway, **AGREED)["id"] for _ in range(3)]
        assert len(list(read_collected(directory))) == 1
    assert [each.answer.id for each in kept(gateway, directory)][-3:] == found


def test_what_waits_is_written_before_the_gateway_ends(start, model, engine, tmp_path):
    directory = tmp_path / "collected"
    ending = start(Gateway, a_route(model, [engine.url]), collected=str(directory), collect=COLLECT)
    asked(ending, **AGREED)
    with directory_lock(directory, "a test"):
        found = [asked(ending, **AGREED)["id"] for _ in range(3)]
        ending.process.terminate()
    ending.process.wait(timeout=600)
    assert [each.answer.id for each in read_collected(directory)][-3:] == found


def test_what_is_over_its_time_goes_when_the_gateway_starts(start, model, engine, tmp_path):
    directory = tmp_path / "collected"
    Keeper(directory, CollectionLimits(90, 10**9)).keep(offered())
    recent = datetime.now(UTC).date() - timedelta(days=5)
    for day in ("2020-01-01", recent):
        (directory / f"{day}.jsonl").write_text("{}\n")
    start(Gateway, a_route(model, [engine.url]), collected=str(directory), collect=COLLECT)
    until(lambda: not (directory / "2020-01-01.jsonl").exists())


def test_a_key_is_needed_where_one_is_needed_for_answers(start, model, engine, tmp_path):
    from tasks.core.serving.client.key_variables import API_KEYS_VARIABLE

    env = {API_KEYS_VARIABLE: "warung:rahasia-warung-satu"}
    closed = start(Gateway, a_route(model, [engine.url]), env=env)
    for path, body in (("feedback", {"id": "x", "user": "y"}), ("forget", {"user": "y"})):
        assert closed.post(f"/v1/{path}", body).status_code == 401


def test_the_lines_on_the_disk_have_no_word_of_who_asked(gateway, directory):
    asked(gateway, store=True, user="siti@toko.id")
    kept(gateway, directory)
    (file,) = directory.glob("*.jsonl")
    line = json.loads(file.read_text())
    assert "toko" not in file.read_text()
    assert len(line["person"]) == 32
