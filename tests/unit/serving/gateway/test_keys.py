"""Who may ask, and how much: keys are compared by digest, read again, and written nowhere."""

import hashlib
import json
from pathlib import Path

import httpx
import openai
import pytest

from tasks.core.errors import UsageError
from tasks.core.serving.client.key_variables import API_KEYS_VARIABLE
from tasks.core.serving.gateway import clients
from tasks.core.serving.gateway import keys as keys_module
from tasks.core.serving.gateway.api_error import ApiError
from tasks.core.serving.gateway.keys import Keys
from tests.unit.serving.gateway.world import LONG, MESSAGES, MODEL_NAME, Gateway, a_route, until

KEY, OTHER = "rahasia-warung-satu", "rahasia-warung-dua-2"


def keys_file(path: Path, *entries: dict) -> Path:
    path.write_text(json.dumps(entries))
    path.chmod(0o600)
    return path


def bearer(key: str) -> str:
    return f"Bearer {key}"


def test_a_file_may_hold_a_key_or_its_digest(tmp_path):
    digest = hashlib.sha256(OTHER.encode()).hexdigest()
    file = keys_file(
        tmp_path / "keys", {"name": "a", "key": KEY}, {"name": "b", "key_sha256": digest}
    )
    keys = Keys(file, {})
    assert keys.client(bearer(KEY)).name == "a"
    assert keys.client(f"bearer {OTHER}").name == "b"


def test_the_environment_holds_names_and_keys_and_both_sources_count(tmp_path):
    file = keys_file(tmp_path / "keys", {"name": "a", "key": KEY})
    keys = Keys(file, {API_KEYS_VARIABLE: f"phone:{OTHER}, {KEY}-tiga"})
    assert keys.client(bearer(OTHER)).name == "phone"
    assert keys.client(bearer(f"{KEY}-tiga")).name == "key-2"
    assert keys.client(bearer(KEY)).name == "a"


@pytest.mark.parametrize(
    "header",
    [None, "", "Bearer", "Bearer ", f"Basic {KEY}", KEY, bearer(KEY + "x"), "Bearer \ud800"],
)
def test_without_a_key_in_force_nobody_is_let_in(tmp_path, header):
    keys = Keys(keys_file(tmp_path / "keys", {"name": "a", "key": KEY}), {})
    with pytest.raises(ApiError) as refused:
        keys.client(header)
    assert refused.value.status == 401
    assert KEY not in refused.value.message


def test_a_file_without_keys_lets_nobody_in(tmp_path):
    with pytest.raises(ApiError):
        Keys(keys_file(tmp_path / "keys"), {}).client(None)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o644])
def test_a_file_that_others_may_read_or_write_is_refused(tmp_path, mode):
    file = keys_file(tmp_path / "keys", {"name": "a", "key": KEY})
    file.chmod(mode)
    with pytest.raises(UsageError) as refused:
        Keys(file, {})
    assert "chmod 600" in str(refused.value)


@pytest.mark.parametrize(
    "content",
    [
        f"- name: a\n  key: {KEY}\n  limit: 5",
        f"- key: {KEY}",
        "- name: a",
        "- name: a\n  key: kurang",
        f"- name: a\n  key: {KEY}\n- name: a\n  key: {OTHER}",
        f"name: a\nkey: {KEY}",
        f"{KEY}: backend\n{KEY}: phone",
        f"- name: a\n  key: [{KEY}]",
        f'- "name: {KEY}',
        f"- name: a\n  key: {KEY}\n  requests_at_once: 0",
    ],
)
def test_a_file_that_is_wrong_is_refused_without_telling_a_key(tmp_path, content):
    file = tmp_path / "keys"
    file.write_text(content)
    file.chmod(0o600)
    with pytest.raises(UsageError) as refused:
        Keys(file, {})
    assert KEY not in str(refused.value)
    assert "kurang" not in str(refused.value)


def test_keys_are_kept_as_digests_only(tmp_path):
    keys = Keys(keys_file(tmp_path / "keys", {"name": "a", "key": KEY}), {})
    assert KEY not in repr(vars(keys))


def test_all_keys_are_compared_in_constant_time(tmp_path, monkeypatch):
    entries = [{"name": f"k{n}", "key": f"{KEY}-{n}"} for n in range(5)]
    keys = Keys(keys_file(tmp_path / "keys", *entries), {})
    compared = []
    monkeypatch.setattr(
        keys_module.hmac, "compare_digest", lambda a, b: compared.append((a, b)) or a == b
    )
    assert keys.client(bearer(f"{KEY}-0")).name == "k0"
    assert len(compared) == 5


def test_a_changed_file_is_followed_and_a_wrong_one_leaves_the_keys_in_force(tmp_path):
    file = keys_file(tmp_path / "keys", {"name": "a", "key": KEY})
    keys = Keys(file, {})
    keys_file(file, {"name": "b", "key": OTHER})
    keys.read_if_changed()
    assert keys.client(bearer(OTHER)).name == "b"
    with pytest.raises(ApiError):
        keys.client(bearer(KEY))
    file.write_text("[")
    with pytest.raises(UsageError):
        keys.read_if_changed()
    keys.read_if_changed()  # told once
    assert keys.client(bearer(OTHER)).name == "b"


def test_requests_at_once_and_a_minute_are_limited_and_the_time_to_come_back_is_said(
    tmp_path, monkeypatch
):
    now = [1000.0]
    monkeypatch.setattr(clients.time, "monotonic", lambda: now[0])
    limits = {"requests_at_once": 2, "requests_per_minute": 3}
    keys = Keys(keys_file(tmp_path / "keys", {"name": "a", "key": KEY, **limits}), {})
    client = keys.client(bearer(KEY))
    with (
        client.one_request(),
        client.one_request(),
        pytest.raises(ApiError) as at_once,
        client.one_request(),
    ):
        pass
    assert (at_once.value.status, at_once.value.retry_after_s) == (429, 1)
    now[0] += 20
    with client.one_request():
        pass
    with pytest.raises(ApiError) as a_minute, client.one_request():
        pass
    assert a_minute.value.retry_after_s == 41
    keys.read()
    with pytest.raises(ApiError), keys.client(bearer(KEY)).one_request():
        pass
    now[0] += 41
    with client.one_request():
        pass


@pytest.fixture
def locked(start, model, engine, tmp_path):
    file = keys_file(
        tmp_path / "keys",
        {"name": "backend", "key": KEY, "answer_tokens": 3},
        {"name": "phone", "key": OTHER, "requests_at_once": 1},
    )
    settings = {"keys_file": str(file), "host": "0.0.0.0", "allowed_origins": ["https://warung.id"]}
    return start(Gateway, a_route(model, [engine.url]), gateway=settings)


def test_a_gateway_with_keys(locked, engine):
    asked = {"model": MODEL_NAME, "messages": MESSAGES, "max_tokens": 10, "temperature": 0}
    with pytest.raises(openai.AuthenticationError) as wrong:
        locked.client(KEY + "x").chat.completions.create(**asked)
    assert wrong.value.code == "invalid_api_key"
    assert locked.chat().headers["www-authenticate"] == "Bearer"
    answer = locked.client(KEY).chat.completions.create(**asked)
    assert answer.usage.completion_tokens == 3, "the key's limit"
    assert httpx.get(f"{locked.url}/health").status_code == 200
    assert httpx.get(f"{locked.url}/ready").status_code == 200
    # Behind a reverse proxy everybody comes from this machine.
    assert httpx.get(f"{locked.url}/metrics").status_code == 401
    header = {"Authorization": bearer(KEY)}
    counted = 'kawan_usaha_answer_tokens_total{key="backend"} 3.0'
    # What is counted and logged is so once the answer has been sent.
    until(lambda: counted in httpx.get(f"{locked.url}/metrics", headers=header).text)
    until(lambda: "key=backend" in locked.text)
    locked.control.generate_token(MODEL_NAME, timeout_s=60)  # the watch has no key
    until(lambda: "key=control" in locked.text)
    for path in ("/v1/models", "/v1/token_check"):
        assert httpx.request("GET", f"{locked.url}{path}").status_code == 401
    engine.misbehave(None, pace_s=0.05)
    stream = locked.client(OTHER).chat.completions.create(stream=True, **LONG)
    next(stream)
    with pytest.raises(openai.RateLimitError):
        locked.client(OTHER).chat.completions.create(**asked)
    stream.close()
    until(lambda: locked.control.state().running == 0)
    assert not any(key in locked.text for key in (KEY, OTHER))
    # Only named pages may ask, and they see the errors too.
    page = {"Origin": "https://warung.id"}
    assert httpx.get(f"{locked.url}/v1/models", headers=page).headers["access-control-allow-origin"]
    foreign = {"Origin": "https://evil.example", "Authorization": bearer(KEY)}
    refused = httpx.get(f"{locked.url}/v1/models", headers=foreign)
    assert refused.status_code == 403
    assert "access-control-allow-origin" not in refused.headers


def test_a_page_of_the_web_may_not_ask_a_gateway_without_keys(gateway):
    origin = {"Origin": "https://evil.example", "Content-Type": "text/plain"}
    body = {"model": MODEL_NAME, "messages": MESSAGES}
    answer = gateway.post("/v1/chat/completions", body, headers=origin)
    assert answer.status_code == 403
    assert httpx.options(f"{gateway.url}/v1/models", headers=origin).status_code == 403
