"""Two Prefect servers on one PostgreSQL and one Redis are one: for real."""

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from flows.notices.channels import install_channels
from flows.notices.trial import Delivery, send_trial
from flows.prefect_server.local_prefect import LocalPrefect
from flows.prefect_server.pools import REDIS_VARIABLE, WEBHOOK_VARIABLE
from flows.prefect_server.start_stop import start_prefect, stop_prefect
from tasks.core.process.ports import free_port
from tests.receivers import WebhookReceiver

INITDB = next(iter(sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))[-1:]), None)
REDIS = shutil.which("redis-server")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        INITDB is None or REDIS is None,
        reason="apt-get install postgresql postgresql-contrib redis-server",
    ),
]
HANG_S = 120.0
SQL = "create database prefect; \\c prefect \n create extension pg_trgm;"


def wait_for(port: int) -> None:
    give_up = time.monotonic() + HANG_S
    while time.monotonic() < give_up:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            return
        time.sleep(0.1)
    raise TimeoutError(f"nothing listens on {port}")


@pytest.fixture
def redis() -> Iterator[str]:
    port = free_port()
    assert REDIS is not None
    argv = [REDIS, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--requirepass", "ses"]
    with subprocess.Popen(argv, stdout=subprocess.DEVNULL) as server:
        wait_for(port)
        yield f"redis://:ses@127.0.0.1:{port}/0"
        server.terminate()


@pytest.fixture
def postgresql() -> Iterator[str]:
    """A database of its own; PostgreSQL does not run as root, and then runs as its own user."""
    assert INITDB is not None
    user = "postgres" if os.getuid() == 0 else None
    root = Path(tempfile.mkdtemp(prefix="kawan-usaha-postgresql-"))
    if user is not None:
        shutil.chown(root, user)
    data, port = root / "data", free_port()
    made = [str(INITDB), "-D", str(data), "-A", "trust", "-U", "prefect"]
    subprocess.run(made, user=user, check=True, stdout=subprocess.DEVNULL)
    listen = ["-p", str(port), "-k", str(root), "-h", "127.0.0.1"]
    argv = [str(INITDB.with_name("postgres")), "-D", str(data), *listen]
    with subprocess.Popen(argv, user=user, stderr=subprocess.DEVNULL) as server:
        wait_for(port)
        psql = ["psql", "-h", "127.0.0.1", "-p", str(port), "-U", "prefect", "postgres"]
        subprocess.run(psql, input=SQL, text=True, check=True, stdout=subprocess.DEVNULL)
        yield f"postgresql+asyncpg://prefect@127.0.0.1:{port}/prefect"
        server.terminate()
    shutil.rmtree(root)


def test_what_is_installed_through_one_server_works_through_the_other_and_when_that_has_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, redis: str, postgresql: str
) -> None:
    monkeypatch.setenv("PREFECT_SERVER_DATABASE_CONNECTION_URL", postgresql)
    monkeypatch.setenv(REDIS_VARIABLE, redis)
    webhook = WebhookReceiver()
    homes = [LocalPrefect(tmp_path / name, ()) for name in ("one", "two")]
    taken = [Delivery("webhook", True, "answered by HTTP 204")]
    try:
        one, two = (
            start_prefect(at, free_port(), install=lambda _: None, say=lambda _: None)
            for at in homes
        )
        install_channels(one, {WEBHOOK_VARIABLE: webhook.url})
        assert [send_trial(two, within_s=HANG_S), send_trial(one, within_s=HANG_S)] == [
            taken,
            taken,
        ]
        stop_prefect(homes[0], say=lambda _: None)
        assert send_trial(two, within_s=HANG_S) == taken
    finally:
        for at in homes:
            stop_prefect(at, say=lambda _: None)
        webhook.close()
    assert len(webhook.bodies) == 3  # each event is handled by one of the servers, not by both
