"""Many processes and one store: each artifact is made once, whole, and nobody loses or waits.

Processes, not threads: what a thread shares with its neighbour would hide what a lock must do.
"""

import json
from pathlib import Path

from tasks.core.keys import stage_key
from tasks.core.store import Store
from tests.crowd import Member, crowd

MANY = 20

_STORE = """
import os, signal, time
from tasks.core.errors import LockBusy
from tasks.core.keys import stage_key
from tasks.core.files.locks import locked
from tasks.core.pruning import prune_store
from tasks.core.store import Store

def noted(home, name):
    # one byte a note, so that they can be counted while others write
    with (home / name).open("ab") as file:
        file.write(b".")
        file.flush()
        return file.tell()

def count(home, name):
    try:
        return (home / name).stat().st_size
    except FileNotFoundError:
        return 0

def until(condition):
    while not condition():
        time.sleep(0.005)
"""

_THE_SAME = (
    _STORE
    + """
def work(number, given):
    home = Path(given["home"])

    def write(staging):
        attempt = noted(home, "attempts")
        (staging.path / f"of-{number}").write_bytes(b"begun")
        if attempt <= given["killed"]:
            os.kill(os.getpid(), signal.SIGKILL)
        for name in [*staging.path.iterdir()]:
            name.unlink()
        (staging.path / "weights").write_bytes(str(number).encode() * 1000)

    built = Store(home).build(stage_key("merge", 1, {}), write)
    files = {p.name: p.read_text() for p in built.artifact.path.iterdir() if p.name == "weights"}
    return [built.cached, built.artifact.digest, files]
"""
)


def values_of(members: list[Member]) -> list:
    """Return what those returned that were not killed; nobody else may have ended badly."""
    assert [m.text for m in members if m.error is not None] == []
    return [m.value for m in members if not m.was_killed]  # type: ignore[misc]


def test_an_artifact_that_many_ask_for_is_made_once_and_everyone_gets_it(tmp_path: Path) -> None:
    values = values_of(crowd(_THE_SAME, tmp_path, count=MANY, given=_given(tmp_path, killed=0)))
    assert len(values) == MANY
    assert sum(not cached for cached, _, _ in values) == 1
    assert len({json.dumps(said[1:]) for said in values}) == 1
    assert (tmp_path / "attempts").stat().st_size == 1
    require_whole(tmp_path)


def test_a_builder_that_is_killed_is_followed_by_the_next_one_that_waits(tmp_path: Path) -> None:
    members = crowd(_THE_SAME, tmp_path, count=MANY, given=_given(tmp_path, killed=3))
    assert sum(member.was_killed for member in members) == 3
    values = values_of(members)
    assert len(values) == MANY - 3
    assert sum(not cached for cached, _, _ in values) == 1
    assert len({json.dumps(said[1:]) for said in values}) == 1
    assert (tmp_path / "attempts").stat().st_size == 4
    require_whole(tmp_path)


_A_CHAIN = (
    _STORE
    + """
def work(number, given):
    home, length = Path(given["home"]), given["length"]
    store, digests = Store(home), {}

    def make(at):
        if at in digests:
            return
        needs, inputs = (), {}
        if at % 5:  # four chains side by side, each of five
            make(at - 1)
            needs, inputs = (str(key_of(at - 1)),), {"model": digests[at - 1]}

        def write(staging):
            noted(home, f"made-{at}")
            before = store.path_of(key_of(at - 1)) / "weights"
            held = before.read_bytes() if needs else b""
            (staging.path / "weights").write_bytes(held + bytes([at]))

        digests[at] = store.build(key_of(at), write, needs=needs, inputs=inputs).artifact.digest

    def key_of(at):
        return stage_key("merge", 1, {"at": at})

    for step in range(length):
        make((number + step * 7) % length)  # each in another order
    return sorted(digests.items())
"""
)


def test_artifacts_that_rest_on_each_other_are_made_once_whoever_begins_where(
    tmp_path: Path,
) -> None:
    given = {"home": str(tmp_path), "length": 20}
    values = values_of(crowd(_A_CHAIN, tmp_path, count=MANY, given=given))
    assert len(values) == MANY
    assert len({json.dumps(value) for value in values}) == 1
    assert [(tmp_path / f"made-{at}").stat().st_size for at in range(20)] == [1] * 20
    last = Store(tmp_path).path_of(stage_key("merge", 1, {"at": 19})) / "weights"
    assert last.read_bytes() == bytes([15, 16, 17, 18, 19])
    require_whole(tmp_path, artifacts=20)


_READERS = (
    _STORE
    + """
KEY = stage_key("merge", 1, {})
FILES = {f"shard-{n}": bytes([n]) * 2000 for n in range(8)}

def write(staging):
    for name, content in FILES.items():
        (staging.path / name).write_bytes(content)

def work(number, given):
    home = Path(given["home"])
    if number == 0:
        return take_away(home, given)
    try:
        return read(home, given)
    finally:
        noted(home, "readers-done")

def take_away(home, given):
    store, ended = Store(home), {"freed": 0, "pruned": 0}
    while count(home, "readers-done") < given["readers"]:
        noted(home, "attempts")
        ended["freed"] += store.free(str(KEY))
        try:
            found = prune_store(home, keep_runs=0, unfinished=True)
            ended["pruned"] += any(item.path.name == str(KEY) for item in found.items)
            noted(home, "prunes")
        except LockBusy:
            pass
    return ended

def read(home, given):
    store = Store(home)
    for round in range(1, given["rounds"] + 1):
        with store.in_use():
            built = None
            while built is None or not built.artifact.path.exists():
                built = store.build(KEY, write)  # it may be freed before it is held
                with store.present([str(KEY)]):
                    if not built.artifact.path.exists():
                        continue
                    tried = count(home, "attempts")
                    until(lambda: count(home, "attempts") >= tried + 2)  # others want it gone
                    found = {name: (built.artifact.path / name).read_bytes() for name in FILES}
                    assert found == FILES, sorted(found)
                    break
        noted(home, "rounds")
        until(lambda: count(home, "prunes") >= round)  # all are out of it at some moment
    return "read"
"""
)


def test_what_is_being_read_stays_while_others_prune_and_free(tmp_path: Path) -> None:
    given = {"home": str(tmp_path), "readers": 6, "rounds": 3}
    values = values_of(crowd(_READERS, tmp_path, count=7, given=given))
    assert values[1:] == ["read"] * 6
    assert (tmp_path / "rounds").stat().st_size == 18
    # That it does go when nobody reads it shows that the one who takes away was at work.
    freed_or_pruned = values[0]
    assert sum(freed_or_pruned.values()) > 0
    assert Store(tmp_path).contents()["trash"] == []


def _given(home: Path, *, killed: int) -> dict[str, object]:
    return {"home": str(home), "killed": killed}


def require_whole(home: Path, *, artifacts: int = 1) -> None:
    """Require that the store holds so many artifacts, and that nothing is left beside them."""
    store = Store(home)
    assert list(store.verify().values()) == [[]] * artifacts
    contents = store.contents()
    assert {place: paths for place, paths in contents.items() if paths} == {
        "artifact": contents["artifact"]
    }
    # Whoever looks removes what a killed holder left behind its name.
    with store.unused():
        pass
