"""Gateways of other machines behind this one: with a key, for one build, and never in a circle."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.tls import certified
from tests.unit.serving.gateway.world import (
    Engine,
    Gateway,
    Process,
    a_route,
    engine_in,
    free_port,
    until,
)

KEY = "rahasia-antar-mesin"


class Worker(Gateway):
    """A gateway that wants the key, with an engine behind it."""

    def __init__(self, directory: Path, model: Path, engines: list[str], **route: object) -> None:
        keys = directory / "keys.json"
        keys.write_text(json.dumps([{"name": "front", "key": KEY}]))
        keys.chmod(0o600)
        super().__init__(
            directory, a_route(model, engines, **route), gateway={"keys_file": str(keys)}
        )


class Front(Gateway):
    """A gateway before an engine of its own and before workers, whose keys it knows."""

    def __init__(
        self,
        directory: Path,
        model: Path,
        engine: str,
        *workers: str,
        key: str = KEY,
        certificate: str | None = None,
        **options: object,
    ) -> None:
        known = directory / "workers.json"
        known.write_text(json.dumps({w: {"key": key, "certificate": certificate} for w in workers}))
        named = [
            {"name": f"w{number}", "url": url, "token_variable": "W"}
            for number, url in enumerate(workers)
        ]
        upstreams = [{"name": "blue", "url": engine}, *named]
        super().__init__(
            directory, a_route(model, [], upstreams=upstreams), workers=str(known), **options
        )

    def reached(self, number: int = 8) -> list[int]:
        """Ask so often, streamed and whole, and return the statuses."""
        return [self.chat(stream=count % 2 == 0).status_code for count in range(number)]


@pytest.fixture(scope="module")
def engine_away(tmp_path_factory: pytest.TempPathFactory, model: Path) -> Iterator[Engine]:
    with engine_in(tmp_path_factory.mktemp("away"), model) as engine:
        yield engine


@pytest.fixture
def away(engine_away: Engine) -> Engine:
    """The engine of another machine, whose past is forgotten."""
    until(lambda: engine_away.state()["running"] == 0)
    return engine_away


def nothing_there() -> str:
    return f"http://127.0.0.1:{free_port()}"


def asked(engine: Engine) -> int:
    return len(engine.state()["asked"])


def test_requests_streamed_and_whole_reach_both_machines(start, model, engine, away):
    worker = start(Worker, model, [away.url])
    front = start(Front, model, engine.url, worker.url)
    engine.state()
    assert front.reached() == [200] * 8
    assert (asked(engine), asked(away)) == (4, 4)
    state = front.control.state()
    assert state.pieces_of("blue") == state.pieces["blue"]["blue"] > 0
    assert state.pieces["blue"]["w0"] > 0
    assert worker.text.count("key=front") == 4


@pytest.mark.slow
def test_a_worker_that_refuses_the_key_is_passed_over_and_no_client_is_refused(
    start, model, engine, away
):
    worker = start(Worker, model, [away.url])
    front = start(Front, model, engine.url, worker.url, key="another-key-than-that")
    assert front.reached() == [200] * 8
    assert asked(away) == 0
    assert front.metric("kawan_usaha_incidents_total", kind="engine-lost") > 0


@pytest.mark.slow
def test_a_worker_that_serves_another_build_by_now_answers_nothing(start, model, engine, away):
    worker = start(Worker, model, [away.url], build="b2")
    front = start(Front, model, engine.url, worker.url)
    assert front.reached() == [200] * 8
    assert asked(away) == 0
    refused = httpx.get(f"{worker.url}/ready", headers={"X-Kawan-Usaha-Build": "b1"})
    assert (refused.status_code, refused.json()["error"]["code"]) == (421, "other_build")
    assert "b2, not b1" in refused.json()["message"]


def test_who_waits_while_the_worker_takes_another_build_is_not_answered_by_it(
    start, model, engine, away
):
    worker = start(Worker, model, [away.url])
    headers = {"Authorization": f"Bearer {KEY}", "X-Kawan-Usaha-Build": "b1"}
    body = {"model": "Kawan-Usaha", "prompt": [1, 2, 3], "max_tokens": 2}
    assert worker.post("/v1/completions", body, headers=headers).status_code == 200
    worker.write_routes(a_route(model, [away.url], build="b2"))
    worker.control.follow_routes()
    assert worker.post("/v1/completions", body, headers=headers).status_code == 421
    embed = {"model": "Kawan-Usaha", "input": "apa"}
    assert worker.post("/v1/embeddings", embed, headers=headers).status_code == 421


def test_it_is_ready_only_when_something_behind_a_worker_answers(start, model):
    worker = start(Worker, model, [nothing_there()])
    front = start(Front, model, nothing_there(), worker.url)
    assert httpx.get(f"{worker.url}/health").status_code == 200
    assert httpx.get(f"{front.url}/ready").status_code == 503
    answer = front.chat()
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) > 0


@pytest.mark.slow
def test_it_is_ready_with_a_worker_alone(start, model, engine):
    worker = start(Worker, model, [engine.url])
    front = start(Front, model, nothing_there(), worker.url)
    assert httpx.get(f"{front.url}/ready").status_code == 200
    assert set(front.reached()) == {200}


@pytest.mark.slow
def test_gateways_that_name_each_other_ask_each_other_once(start, model):
    """Without an engine anywhere the answer is an error at once, and not a request in a circle."""
    ports = [free_port(), free_port()]
    urls = [f"http://127.0.0.1:{port}" for port in ports]
    one, two = (
        start(Front, model, nothing_there(), other, gateway={"port": port})
        for port, other in zip(ports, reversed(urls), strict=True)
    )
    assert httpx.get(f"{one.url}/ready").status_code == 503
    began = time.monotonic()
    assert one.chat().status_code == 503
    assert time.monotonic() - began < 10
    assert two.text.count("/v1/completions 503") == 1


@pytest.mark.slow
def test_what_is_lost_fails_nobody_however_many_there_are(start, model, engine):
    front = start(Front, model, nothing_there(), nothing_there(), nothing_there(), engine.url)
    assert front.reached() == [200] * 8


@pytest.mark.slow
def test_a_worker_that_comes_back_is_asked_again_by_itself(start, model, engine, away):
    worker = start(Worker, model, [away.url])
    front = start(Front, model, engine.url, worker.url)
    worker.process.kill()
    assert front.reached() == [200] * 8
    lost = front.metric("kawan_usaha_incidents_total", kind="engine-lost")
    assert lost == 1
    again = start_again(worker)
    try:
        until(lambda: front.reached(2) == [200, 200] and asked(away) > 0, within_s=60)
    finally:
        again.end()
    assert front.metric("kawan_usaha_incidents_total", kind="engine-lost") == lost


def start_again(gateway: Gateway) -> Process:
    return Process(gateway.log, gateway.argv, stdin=subprocess.DEVNULL)


@pytest.mark.slow
def test_a_worker_behind_tls_is_trusted_by_its_certificate_alone(
    start, model, engine, away, tmp_path
):
    worker = start(Worker, model, [away.url])
    mine, other = (certified(tmp_path / name) for name in ("mine", "other"))
    port = free_port()
    relay = [sys.executable, "-m", "tests.tls", str(port), str(worker.port), *map(str, mine)]
    proxy = Process(tmp_path / "tls.log", relay)
    url = f"https://127.0.0.1:{port}"
    try:
        until(lambda: _accepts(port))
        trusting = start(Front, model, engine.url, url, certificate=mine.certificate.read_text())
        engine.state()
        assert trusting.reached() == [200] * 8
        assert asked(away) == 4
        for certificate in (None, other.certificate.read_text()):
            wary = start(Front, model, engine.url, url, certificate=certificate)
            assert wary.reached() == [200] * 8
            assert asked(away) == 0
    finally:
        proxy.end()


def _accepts(port: int) -> bool:
    import socket

    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_keys_that_cannot_be_read_leave_the_route_in_use(start, model, engine):
    front = start(Front, model, engine.url)
    (front.directory / "workers.json").write_text('{"http://w": {"key": 5}}')
    with pytest.raises(Exception, match="keys of the workers"):
        front.control.follow_routes()
    assert front.chat().status_code == 200
