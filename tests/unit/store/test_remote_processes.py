"""Several processes and one key of a remote store: one whole artifact, and everyone told of it."""

from pathlib import Path

import pytest

from tasks.core.keys import stage_key
from tasks.core.store import RemoteStore, Store
from tests.crowd import crowd

KEY = stage_key("merge", 1, {})
WRITERS = {"file": 4, "s3": 2}

_WRITERS = """
import time
from tasks.core.keys import stage_key
from tasks.core.store import RemoteStore, Store
import s3fs

def work(number, given):
    ready, said = Path(given["ready"]), []

    def write(staging):
        content = given["contents"][number].encode() * 200_000
        (staging.path / "weights").write_bytes(content)
        (staging.path / "of-all").write_bytes(b"the same")
        (ready / str(number)).touch()
        while len([*ready.iterdir()]) < len(given["contents"]):  # all of them send at one moment
            time.sleep(0.005)

    home, remote = Path(given["homes"]) / str(number), RemoteStore.open(given["url"])
    store = Store(home, say=said.append, remote=remote)
    built = store.build(stage_key("merge", 1, {}), write)
    return [built.artifact.digest, said, store.is_shared(built.artifact)]
"""


@pytest.fixture(params=["file", "s3"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A remote store that other processes reach."""
    if request.param == "file":
        (tmp_path / "shared").mkdir()
        return f"file://{tmp_path}/shared"
    found: str = request.getfixturevalue("s3_url")
    return found


@pytest.mark.parametrize("contents", [list("abcd"), list("aaaa")], ids=["other bytes", "equal"])
def test_of_writers_to_one_remote_key_one_wins_and_the_others_take_what_is_there(
    url: str, contents: list[str], tmp_path: Path
) -> None:
    (tmp_path / "ready").mkdir()
    writers = WRITERS[url.partition("://")[0]]
    given = {
        "url": url,
        "contents": contents[:writers],
        "ready": str(tmp_path / "ready"),
        "homes": str(tmp_path / "homes"),
    }
    members = crowd(_WRITERS, tmp_path, count=writers, given=given)
    assert [member.text for member in members if member.error] == []
    digests, said, shared = zip(*(member.value for member in members), strict=True)
    assert len(set(digests)) == 1
    assert shared == (True,) * writers
    told = [lines for lines in said if any("another machine was first" in line for line in lines)]
    assert len(told) == (writers - 1 if len(set(contents)) > 1 else 0)
    for number in range(writers):
        assert Store(tmp_path / "homes" / str(number)).verify() == {str(KEY): []}
    later = Store(tmp_path / "later", remote=RemoteStore.open(url))
    artifact = later.pull(str(KEY))
    assert artifact is not None
    assert artifact.digest == digests[0]
    assert later.verify() == {str(KEY): []}
