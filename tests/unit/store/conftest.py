import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tasks.core.store import RemoteStore, Store
from tests.s3_server import make_bucket, s3_server, use


@pytest.fixture(scope="session")
def s3_address() -> Iterator[str]:
    with s3_server() as address:
        yield address


@pytest.fixture
def s3_url(s3_address: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """A prefix of a bucket of the test's own, on a real server."""
    use(monkeypatch, s3_address)
    bucket = f"kawan-{uuid.uuid4().hex}"
    make_bucket(s3_address, bucket)
    return f"s3://{bucket}/artifacts"


@pytest.fixture(params=["file", "s3", "memory"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty remote store of each kind."""
    if request.param == "file":
        (tmp_path / "shared").mkdir()
        return f"file://{tmp_path}/shared"
    if request.param == "memory":
        return f"memory://{uuid.uuid4().hex}"
    found: str = request.getfixturevalue("s3_url")
    return found


Machine = Callable[[str], Store]


@pytest.fixture
def said() -> list[str]:
    """What the machines of a test have said."""
    return []


@pytest.fixture
def machine(url: str, tmp_path: Path, said: list[str]) -> Machine:
    """Make the store of a machine of this name; all of them share one remote store."""
    return lambda name: Store(tmp_path / name, say=said.append, remote=RemoteStore.open(url))


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Try a file again at once."""
    monkeypatch.setattr("tasks.core.store.transfers.WAITS_S", (0.0, 0.0, 0.0))
