"""The team reviews what was collected: who may, what comes first, and what is written."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tasks.core.collected.review.reading import read_collected
from tasks.core.collected.storage.directory import REVIEWS_FILE
from tasks.core.serving.client.key_variables import API_KEYS_VARIABLE
from tests.collected import Kept
from tests.unit.serving.gateway.world import Gateway

RINA, JOKO, CLIENT, SHARED = (f"rahasia-warung-{name}" for name in ("rina", "joko", "hp", "lama"))
KEYS = [
    {"name": "rina", "key": RINA, "reviewer": True},
    {"name": "joko", "key": JOKO, "reviewer": True},
    {"name": "hp", "key": CLIENT},
]


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway with keys that collects, and serves no model."""
    directory = tmp_path_factory.mktemp("gateway")
    keys = directory / "keys"
    keys.write_text(json.dumps(KEYS))
    keys.chmod(0o600)
    gateway = Gateway(
        directory,
        None,
        gateway={"keys_file": str(keys)},
        env={API_KEYS_VARIABLE: f"lama:{SHARED}"},
        collected=str(directory / "collected"),
    )
    yield gateway
    gateway.end()


@pytest.fixture
def kept(door: Gateway) -> Kept:
    kept = Kept(door.directory / "collected")
    for file in kept.directory.glob("*.jsonl"):
        file.unlink()
    return kept


def listed(door: Gateway, key: str | None = RINA, **asked: object) -> httpx.Response:
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    return httpx.get(f"{door.url}/v1/reviews", params=asked, headers=headers, timeout=60)


def decided(door: Gateway, key: str | None = RINA, **fields: object) -> httpx.Response:
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    return door.post("/v1/reviews", fields, headers=headers)


@pytest.mark.parametrize(
    ("key", "status"), [(None, 401), ("falsch-und-unbekannt", 401), (CLIENT, 403), (SHARED, 403)]
)
def test_only_a_reviewers_key_reads_or_decides(door, kept, key, status):
    kept.answer("chatcmpl-1", "Bisa?", "Rahasia.")
    for answer in (listed(door, key), decided(door, key, id="chatcmpl-1", decision="accept")):
        assert answer.status_code == status
        assert "Rahasia" not in answer.text
    assert not (kept.directory / REVIEWS_FILE).exists()


def test_without_keys_nobody_reviews_on_this_machine_either(start, tmp_path):
    kept = Kept(tmp_path / "collected")
    kept.answer("chatcmpl-1", "Bisa?", "Rahasia.")
    door = start(Gateway, None, collected=str(kept.directory))
    for key in (None, RINA):
        assert listed(door, key).status_code == 403
        assert decided(door, key, id="chatcmpl-1", decision="accept").status_code == 403
    assert not (kept.directory / REVIEWS_FILE).exists()


def test_where_nothing_is_collected_a_reviewer_is_told_so(start, tmp_path, door):
    other = start(Gateway, None, gateway={"keys_file": str(door.directory / "keys")})
    answer = listed(other)
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_collecting")


def test_a_page_of_another_site_cannot_review_with_a_key_that_the_browser_has(door, kept):
    headers = {"Authorization": f"Bearer {RINA}", "Origin": "https://lain.example"}
    assert httpx.get(f"{door.url}/v1/reviews", headers=headers).status_code == 403


@pytest.mark.parametrize(
    ("asked", "param"),
    [
        ({"limit": 0}, "limit"),
        ({"limit": 101}, "limit"),
        ({"limit": "x"}, "limit"),
        ({"which": "mine"}, "which"),
        ({"after": "x"}, "after"),
        ({"person": "5"}, "person"),
    ],
)
def test_a_question_that_is_wrong_is_refused_by_the_name_of_its_field(door, kept, asked, param):
    answer = listed(door, **asked)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"id": "chatcmpl-1"}, "decision"),
        ({"decision": "accept"}, "id"),
        ({"id": "chatcmpl-1", "decision": "maybe"}, "decision"),
        ({"id": "chatcmpl-1", "decision": "accept", "answer": " "}, "answer"),
        ({"id": "chatcmpl-1", "decision": "accept", "seen": "yesterday"}, "seen"),
        ({"id": "chatcmpl-1", "decision": "accept", "reviewer": "joko"}, "reviewer"),
    ],
)
def test_a_decision_that_is_wrong_is_refused_by_the_name_of_its_field(door, kept, fields, param):
    kept.answer("chatcmpl-1", "Bisa?", "Ya.")
    answer = decided(door, **fields)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)
    assert not (kept.directory / REVIEWS_FILE).exists()


def test_an_answer_that_is_not_kept_is_not_found(door, kept):
    answer = decided(door, id="chatcmpl-9", decision="accept")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")
    assert str(kept.directory) not in answer.text


def test_a_directory_that_cannot_be_written_is_told_and_the_gateway_goes_on(door, kept):
    kept.answer("chatcmpl-1", "Bisa?", "Ya.")
    (kept.directory / REVIEWS_FILE).mkdir()
    answer = decided(door, id="chatcmpl-1", decision="accept")
    (kept.directory / REVIEWS_FILE).rmdir()
    assert answer.status_code == 503
    assert "retry-after" in answer.headers
    assert decided(door, id="chatcmpl-1", decision="accept").status_code == 200


def test_the_worst_rated_come_first_part_by_part(door, kept):
    kept.answer("liked", "a?", "b", rated="up")
    kept.answer("unrated", "a?", "b")
    kept.answer("disliked", "system:s", "a?", "b", rated="down", correction="c")
    first = listed(door, limit=2).json()
    assert [each["id"] for each in first["data"]] == ["disliked", "unrated"]
    assert first["waiting"] == 3
    second = listed(door, limit=2, after=first["after"]).json()
    assert [each["id"] for each in second["data"]] == ["liked"]
    assert second["after"] is None
    shown = first["data"][0]
    assert shown["messages"] == [
        {"role": "system", "content": "s"},
        {"role": "user", "content": "a?"},
    ]
    assert (shown["answer"], shown["verdict"], shown["correction"]) == ("b", "down", "c")
    assert shown["review"] is None
    assert "person" not in shown


def test_who_decided_is_the_name_of_the_key(door, kept):
    kept.answer("chatcmpl-1", "Bisa?", "Ya.")
    made = decided(door, JOKO, id="chatcmpl-1", decision="accept", answer="Tentu bisa.").json()
    assert (made["reviewer"], made["answer"]) == ("joko", "Tentu bisa.")
    (found,) = read_collected(kept.directory)
    assert found.review is not None
    assert found.review.reviewer == "joko"
    assert listed(door).json()["data"] == []
    (shown,) = listed(door, which="reviewed").json()["data"]
    assert shown["review"]["time"] == made["time"]


def test_the_second_of_two_reviewers_is_told_of_the_first_and_may_then_decide_again(door, kept):
    kept.answer("chatcmpl-1", "Bisa?", "Ya.")

    def one(key: str) -> httpx.Response:
        return decided(door, key, id="chatcmpl-1", decision="reject")

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(one, [RINA, JOKO, RINA, JOKO]))
    (heard,) = [each for each in answers if each.status_code == 200]
    assert [each.status_code for each in answers].count(409) == 3
    seen = heard.json()["time"]
    again = decided(door, JOKO, id="chatcmpl-1", decision="accept", seen=seen)
    assert again.status_code == 200


def test_what_people_wrote_is_not_in_the_log(door, kept):
    kept.answer("chatcmpl-1", "Pertanyaanrahasia?", "Jawabanrahasia.")
    listed(door)
    decided(door, id="chatcmpl-1", decision="accept", answer="Suntinganrahasia.")
    assert "rahasia." not in door.text
    assert "Pertanyaanrahasia" not in door.text
    assert "key=rina" in door.text


def test_a_right_that_is_taken_away_ends_at_once(door, kept):
    keys: Path = door.directory / "keys"
    before = keys.read_text()
    keys.write_text(before.replace("true", "false", 1))
    try:
        assert listed(door).status_code == 403
        assert listed(door, JOKO).status_code == 200
    finally:
        keys.write_text(before)
