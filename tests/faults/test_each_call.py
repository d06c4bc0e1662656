"""Whichever call fails: it is told what and where, nothing is torn, and the next try ends as well.

Each test lets every call of one piece of work fail in turn, in each of six ways.
"""

from pathlib import Path

from tasks.core.collected.privacy.forgetting import forget
from tasks.core.collected.review.reading import read_collected
from tasks.core.collected.storage.records import line_of
from tasks.core.collected.storage.writing import append
from tasks.core.demo.hub.blobs import BlobStore
from tasks.core.demo.hub.records import StoredFile
from tasks.core.demo.hub.repositories import RepositoryStore
from tasks.core.errors import StorageRefused, UsageError
from tasks.core.files.output import staged_directory
from tasks.core.keys import stage_key
from tasks.core.pruning import prune_store as free_room
from tasks.core.serving.state.directory import StateDirectory
from tasks.core.serving.state.files import read_deployment, write_record, write_routes
from tasks.core.serving.state.routes import Routes
from tasks.core.store import RemoteStore, Staging, Store
from tasks.core.store.checks import wrong_content
from tasks.core.store.runs import RunRecords
from tests.collected import BUDI, SITI, an_answer
from tests.deployments import deployment
from tests.faults.conftest import Holds
from tests.faults.survey import Work, files_in

DAY = "2026-11-30.jsonl"
KEY = stage_key("merge", 1, {})


# --- the store and its records -------------------------------------------------------------


def _write(staging: Staging) -> None:
    (staging.path / "code").mkdir(exist_ok=True)
    (staging.path / "code" / "model.py").write_text("model = 1\n")
    (staging.path / "weights").write_bytes(bytes(range(250)) * 560)


def _whole(home: Path) -> None:
    found = Store(home).find(KEY)
    assert found is None or list(wrong_content(found.path)) == []


def _artifact(home: Path) -> object:
    found = Store(home).find(KEY)
    assert found is not None
    return files_in(found.path, "manifest.json")


def test_an_artifact_of_the_store(holds: Holds) -> None:
    holds(Work(lambda home: Store(home).build(KEY, _write), _artifact, look=_whole))


def test_an_artifact_that_is_freed(holds: Holds) -> None:
    def look(home: Path) -> None:
        _whole(home)
        assert Store(home).find(KEY) or Store(home).freed(str(KEY))

    def note(home: Path) -> object:
        assert Store(home).find(KEY) is None
        return files_in(home / "store/.freed" / str(KEY), "manifest.json")

    holds(
        Work(
            lambda home: Store(home).free(str(KEY)),
            note,
            lambda home: Store(home).build(KEY, _write),
            look,
        )
    )


def test_an_artifact_that_is_shared_and_fetched(holds: Holds) -> None:
    def store(root: Path, machine: str) -> Store:
        remote = RemoteStore.open(f"file://{root}/shared")
        return Store(root / machine, say=lambda _: None, remote=remote)

    def share(root: Path) -> None:
        store(root, "one").build(KEY, _write)
        store(root, "two").build(KEY, _never)

    def prepare(root: Path) -> None:
        (root / "shared").mkdir()

    def look(root: Path) -> None:
        for machine in ("one", "two"):
            _whole(root / machine)

    def result(root: Path) -> object:
        return _artifact(root / "one"), _artifact(root / "two"), files_in(root / "shared/files")

    holds(Work(share, result, prepare, look, (StorageRefused,)))


def _never(_: Staging) -> None:
    raise AssertionError("it is made twice")


def test_the_record_of_a_run(holds: Holds) -> None:
    def work(home: Path) -> None:
        run = RunRecords(home).start("demo")
        run.add("fuse-one")
        run.release("fuse-one")
        run.finish()

    def look(home: Path) -> None:
        paths = list((home / "runs").glob("*.json"))
        assert len(RunRecords(home).all()) == len(paths), "one that is torn"

    def result(home: Path) -> object:
        return RunRecords(home).releases("demo"), RunRecords(home).artifacts_of_last(1)

    holds(Work(work, result, look=look))


def test_the_record_of_what_serves(holds: Holds) -> None:
    def switch(root: Path) -> None:
        state = StateDirectory(root / "serving" / "chat")
        for slot in ("blue", "green"):
            record = deployment(state, build=slot, model=Path(f"/models/{slot}"), slot=slot)
            state.slot(slot).prepare(record.model)
            write_record(state, record)
            write_routes(state, Routes(route=record.route))

    def serves(root: Path) -> str | None:
        found = read_deployment(StateDirectory(root / "serving" / "chat"))
        return found and found.build

    def look(root: Path) -> None:
        assert serves(root) in (None, "blue", "green")

    holds(Work(switch, serves, look=look))


def test_nothing_goes_that_a_record_names(holds: Holds) -> None:
    """What cannot be listed or read may name any artifact."""

    def prepare(home: Path) -> None:
        Store(home).build(KEY, _write)
        for kept in (str(KEY), "fuse-00000000000000000000"):
            run = RunRecords(home).start("demo")
            run.add(kept)
            run.finish()

    def is_kept(home: Path) -> None:
        assert Store(home).find(KEY) is not None

    holds(Work(free_room, _artifact, prepare, is_kept))


# --- files that stand alone ----------------------------------------------------------------


def test_an_output_directory(holds: Holds) -> None:
    def work(root: Path) -> None:
        if (root / "new" / "out").exists():  # it failed at the last sync
            return
        with staged_directory(root / "new" / "out", {"command": "test"}) as staging:
            (staging / "deep").mkdir(exist_ok=True)
            (staging / "deep" / "weights").write_bytes(b"w" * 1000)

    def look(root: Path) -> None:
        out = root / "new" / "out"
        assert not out.exists() or (out / "deep/weights").read_bytes() == b"w" * 1000

    def result(root: Path) -> object:
        return files_in(root / "new" / "out", ".work")

    holds(Work(work, result, look=look, told_as=(UsageError,)))


def test_a_commit_of_the_embedded_hub(holds: Holds) -> None:
    def work(root: Path) -> None:
        hub, blobs = RepositoryStore(root / "hub"), BlobStore(root / "hub" / "blobs")
        if hub.find("kawan/usaha") is None:
            hub.create("kawan/usaha", private=False, author="kawan", files={})
        content = StoredFile.regular(b"content", blobs.add(b"content"))
        hub.append_commit(
            "kawan/usaha",
            "main",
            lambda files: {**files, "README.md": content},
            title="a file",
            message="",
            author="kawan",
            expected_parent=None,
        )

    def contents(root: Path) -> object:
        hub = RepositoryStore(root / "hub")
        found = hub.find("kawan/usaha")
        assert found is not None
        return {
            name: file.sha256 for name, file in next(iter(hub.history(found, "main"))).files.items()
        }

    holds(Work(work, contents))


def test_an_answer_that_is_collected(holds: Holds) -> None:
    def work(root: Path) -> None:
        append(root / DAY, line_of(an_answer()))

    def look(root: Path) -> None:
        bad: list[object] = []
        list(read_collected(root, bad.append))
        assert bad == []

    holds(Work(work, lambda root: "chatcmpl-1" in (root / DAY).read_text(), look=look))


def test_a_person_that_is_forgotten(holds: Holds) -> None:
    def work(root: Path) -> None:
        if next(read_collected(root), None) is None:
            append(root / DAY, line_of(an_answer()) + line_of(an_answer("budi-0", person=BUDI)))
        forget(root, SITI)

    def look(root: Path) -> None:
        bad: list[object] = []
        found = {each.answer.id for each in read_collected(root, bad.append)}
        assert bad == []
        assert found in (set(), {"chatcmpl-1", "budi-0"}, {"budi-0"})

    holds(Work(work, lambda root: [e.answer.id for e in read_collected(root)], look=look))
