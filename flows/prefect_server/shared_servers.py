"""Several Prefect servers as one: the Redis that they share beside the database.

PostgreSQL holds runs and schedules; events, leases and background work go through Redis. Without
it a server keeps those in memory, which is right as long as there is only one.
"""

from collections.abc import Mapping
from urllib.parse import urlsplit

from flows.prefect_server.pools import REDIS_VARIABLE
from tasks.core.errors import PrefectUnavailable, UsageError

_DATABASES = (
    "PREFECT_SERVER_DATABASE_CONNECTION_URL",
    "PREFECT_API_DATABASE_CONNECTION_URL",
)
_SCHEMES = ("redis", "rediss")
_ANSWER_S = 10.0


def shared_settings(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the Prefect settings for the Redis that the environment names, none without one.

    What the environment sets itself stays. The address holds a password: no message quotes it.
    """
    address = environ.get(REDIS_VARIABLE, "").strip()
    if not address:
        return {}
    made = {
        "PREFECT_MESSAGING_BROKER": "prefect_redis.messaging",
        "PREFECT_MESSAGING_CACHE": "prefect_redis.messaging",
        "PREFECT_SERVER_EVENTS_CAUSAL_ORDERING": "prefect_redis.ordering",
        "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect_redis.lease_storage",
        "PREFECT_REDIS_MESSAGING_URL": address,
        "PREFECT_SERVER_DOCKET_URL": address,
    }
    return {name: value for name, value in made.items() if name not in environ}


def require_shared(environ: Mapping[str, str]) -> None:
    """Raise if a Redis is named that does not answer, or without a PostgreSQL beside it."""
    address = environ.get(REDIS_VARIABLE, "").strip()
    if not address:
        return
    if urlsplit(address).scheme not in _SCHEMES:
        raise UsageError(
            "This is not the address of a Redis server.",
            where=REDIS_VARIABLE,
            expected="redis://127.0.0.1:6379/0, or rediss://user:password@host:6379/0",
        )
    if not any(environ.get(name, "").startswith("postgresql") for name in _DATABASES):
        raise UsageError(
            "Redis is for several servers, which must share one PostgreSQL too.",
            where=REDIS_VARIABLE,
            expected=f"postgresql+asyncpg://… in {_DATABASES[0]}",
            next_step=f"For a single server, unset {REDIS_VARIABLE}.",
        )
    _require_answer(address)


def _require_answer(address: str) -> None:
    import redis

    try:
        with redis.Redis.from_url(address, socket_connect_timeout=_ANSWER_S) as client:
            client.ping()
    except redis.RedisError as error:
        parts = urlsplit(address)
        raise PrefectUnavailable(
            "The Redis of the Prefect servers does not answer.",
            where=f"{REDIS_VARIABLE}, {parts.hostname}:{parts.port or 6379}",
            found=type(error).__name__,
            next_step="Start it (`redis-server`), or correct its address and password.",
        ) from error
