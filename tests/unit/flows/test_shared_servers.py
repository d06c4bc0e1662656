"""The variable that makes several Prefect servers one: what it sets, and when it is refused."""

from pathlib import Path

import pytest
from prefect_redis.client import RedisMessagingSettings

from flows.prefect_server.local_prefect import LocalPrefect
from flows.prefect_server.pools import REDIS_VARIABLE
from flows.prefect_server.processes import process_environment
from flows.prefect_server.shared_servers import require_shared, shared_settings
from tasks.core.errors import KawanUsahaError, PrefectUnavailable, UsageError
from tasks.core.process.ports import free_port
from tests.secrets import SESAME

API = "http://127.0.0.1:4200/api"
DATABASE = {"PREFECT_SERVER_DATABASE_CONNECTION_URL": "postgresql+asyncpg://db/prefect"}


@pytest.mark.parametrize(
    ("environ", "kind"),
    [
        ({**DATABASE, REDIS_VARIABLE: "sesame:6379"}, UsageError),
        ({REDIS_VARIABLE: "redis://:sesame@127.0.0.1/0"}, UsageError),
        ({**DATABASE, REDIS_VARIABLE: f"redis://:sesame@127.0.0.1:{free_port()}"}, None),
    ],
    ids=["no address", "no PostgreSQL", "no answer"],
)
def test_what_cannot_be_shared_is_refused_before_anything_starts_and_not_quoted(
    environ: dict[str, str], kind: type[KawanUsahaError] | None
) -> None:
    with pytest.raises(kind or PrefectUnavailable) as refused:
        require_shared(environ)
    assert REDIS_VARIABLE in str(refused.value)
    assert SESAME not in str(refused.value)


def test_without_the_variable_nothing_is_set_and_nothing_required() -> None:
    require_shared({})
    assert shared_settings({}) == {}


def test_server_gets_every_part_that_would_be_in_its_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = "redis://127.0.0.1:6379/0"
    given = {REDIS_VARIABLE: address, "PREFECT_MESSAGING_CACHE": "set.by.hand"}
    made = process_environment(LocalPrefect(tmp_path, ()), API, given)
    assert made["PREFECT_SERVER_DOCKET_URL"] == address
    assert made["PREFECT_MESSAGING_BROKER"] == "prefect_redis.messaging"
    assert made["PREFECT_MESSAGING_CACHE"] == "set.by.hand"
    for name, value in made.items():
        if name.startswith("PREFECT_"):
            monkeypatch.setenv(name, value)
    assert RedisMessagingSettings().url == address
