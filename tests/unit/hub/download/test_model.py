"""A model from the Hub into a directory."""

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from huggingface_hub import CommitOperationDelete

from tasks.core.errors import (
    DiskFull,
    DownloadCorrupt,
    GatedRepository,
    HubUnavailable,
    NotAModel,
    RepositoryNotFound,
    RevisionNotFound,
    WrongToken,
)
from tasks.core.hub.download.announced import HubFile
from tasks.core.hub.download.file import Patience
from tasks.core.hub.download.model import (
    ResolvedModel,
    WrittenFiles,
    download_model,
    missing_bytes,
    resolve_model,
)
from tests.hub_faults import CutAfter, IgnoreRange, Moved, Refuse, Slow, WrongBytes
from tests.unit.hub.conftest import GUEST, OWNER, STRANGER

SHARD = "model-00002-of-00005.safetensors"
QUICK = Patience(attempts=3, first_wait_s=0.01)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def test_room_is_counted_while_another_thread_renames_what_it_has_fetched(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = ResolvedModel("of/anybody", "c" * 40, (HubFile(SHARD, 100, None, ""),))
    monkeypatch.setattr(Path, "exists", lambda _: True)  # and gone by the next call
    assert missing_bytes(model, out) == 100


def fetch(repo: str, out: Path, **options: object) -> WrittenFiles:
    return download_model(resolve_model(repo, "main"), out, patience=QUICK, **options)


def assert_same(out: Path, model: Path) -> None:
    wanted = {path.name for path in model.iterdir()} - {"consolidated.00.pth"}
    assert {path.name for path in out.iterdir()} == wanted
    for name in wanted:
        assert (out / name).read_bytes() == (model / name).read_bytes(), name


# --- what is refused -----------------------------------------------------------------------


def test_no_such_repository(hub):
    with pytest.raises(RepositoryNotFound):
        resolve_model("warung/nothing", "main")


def test_no_such_revision(published):
    with pytest.raises(RevisionNotFound):
        resolve_model(published, "v9")


def test_a_private_repository_needs_the_owners_token(owner, published):
    owner.update_repo_settings(published, private=True)
    with pytest.raises(RepositoryNotFound):
        resolve_model(published, "main")
    assert resolve_model(published, "main", token=OWNER).commit


@pytest.mark.parametrize("token", [None, STRANGER])
def test_a_gated_repository_is_refused_before_anything_is_fetched(owner, published, token):
    owner.update_repo_settings(published, gated="auto")
    with pytest.raises(GatedRepository):
        resolve_model(published, "main", token=token)


def test_a_gate_that_closes_in_between_stops_the_download(owner, published, out):
    resolved = resolve_model(published, "main")
    owner.update_repo_settings(published, gated="auto")
    with pytest.raises(GatedRepository):
        download_model(resolved, out, patience=QUICK)
    assert download_model(resolved, out, GUEST, patience=QUICK).files


def test_a_wrong_token_is_told(published):
    with pytest.raises(WrongToken):
        resolve_model(published, "main", token="hf_invented")


def test_a_repository_without_weights_is_no_model(owner, published):
    shards = [name for name in owner.list_repo_files(published) if name.startswith("model-")]
    owner.create_commit(
        published,
        operations=[CommitOperationDelete(name) for name in shards],
        commit_message="without weights",
    )
    with pytest.raises(NotAModel):
        resolve_model(published, "main")


def test_a_full_disk_is_told_before_the_first_byte(published, out, faults, monkeypatch):
    resolved = resolve_model(published, "main")
    usage = shutil.disk_usage(out.parent)
    missing = resolved.size_bytes - 1
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=missing))
    with pytest.raises(DiskFull):
        download_model(resolved, out)
    assert not faults.requests("/resolve/")


def test_what_is_there_already_needs_no_room(published, out, model, monkeypatch):
    resolved = resolve_model(published, "main")
    out.mkdir()
    shutil.copy(model / SHARD, out / SHARD)
    (out / "model-00003-of-00005.safetensors.part").write_bytes(b"x" * 10)
    free = resolved.size_bytes - (model / SHARD).stat().st_size - 10
    usage = shutil.disk_usage(out)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=free))
    download_model(resolved, out)
    assert not list(out.glob("*.part"))


def test_a_hub_that_stays_away_is_given_up_and_what_arrived_is_kept(published, out, model, faults):
    faults.add(CutAfter(4000), SHARD)
    faults.add(Refuse(503), SHARD, times=99)
    with pytest.raises(HubUnavailable, match="returned a server error"):
        fetch(published, out)
    assert (out / f"{SHARD}.part").read_bytes() == (model / SHARD).read_bytes()[:4000]
    assert not (out / SHARD).exists()


def test_a_hub_that_asks_for_a_long_wait_is_left_to_the_next_run(published, out, faults):
    faults.add(Refuse(429, retry_after_s=3600), SHARD, times=99)
    with pytest.raises(HubUnavailable) as told:
        fetch(published, out)
    assert told.value.next_step == "Try again in 3600 s."
    assert len(faults.requests(SHARD)) == 1


class Empty:
    """Says yes and sends nothing."""

    async def __call__(self, app, scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body"})


def test_a_hub_that_answers_with_nothing_is_given_up(published, out, faults):
    faults.add(Empty(), SHARD, times=99)
    with pytest.raises(HubUnavailable, match="no bytes"):
        fetch(published, out)
    assert len(faults.requests(SHARD)) == QUICK.attempts


@pytest.mark.parametrize(("name", "announced"), [(SHARD, "SHA-256"), ("tokenizer.json", "git")])
def test_a_file_that_comes_wrong_twice_is_refused_and_not_kept(
    published, out, faults, name, announced
):
    faults.add(WrongBytes(), name, times=2)
    with pytest.raises(DownloadCorrupt, match=announced) as told:
        fetch(published, out)
    assert told.value.retryable
    assert not (out / name).exists()
    assert not (out / f"{name}.part").exists()


def test_one_failure_stops_the_transfers_that_wait(published, out, faults):
    faults.add(Refuse(503, retry_after_s=50), "model-00001", times=99)
    faults.add(Refuse(403), SHARD)
    with pytest.raises(WrongToken):
        fetch(published, out)
    # One that was not stopped would have asked again after its 50 s, and be waited for.
    assert len(faults.requests("model-00001")) <= 1


# --- what works ----------------------------------------------------------------------------


def test_the_model_arrives_bit_for_bit_and_nothing_else(published, out, model):
    written = fetch(published, out)
    assert_same(out, model)
    for name, digest in written.files.items():
        content = (out / name).read_bytes()
        assert digest.size_bytes == len(content)
        assert digest.sha256 == hashlib.sha256(content).hexdigest()
    assert set(written.files) == {path.name for path in out.iterdir()}


def test_nothing_goes_to_the_librarys_cache(published, out, tmp_path):
    environment = {**os.environ, "HF_HOME": str(tmp_path / "home")}
    subprocess.run([*SCRIPT, published, str(out)], env=environment, check=True)
    assert (out / SHARD).exists()
    assert not [path for path in (tmp_path / "home").rglob("*") if path.is_file()]


def test_a_revision_names_the_commit_of_its_time(owner, published):
    owner.create_tag(published, tag="v1")
    old = resolve_model(published, "v1")
    owner.upload_file(path_or_fileobj=b"{}", path_in_repo="extra.json", repo_id=published)
    new = resolve_model(published, "main")
    assert old.commit != new.commit
    assert resolve_model(published, old.commit) == old
    assert "extra.json" not in {file.path for file in old.files}


def test_resolving_asks_once(published, faults):
    before = len(faults.served)
    resolve_model(published, "main")
    assert len(faults.served) == before + 1


def test_a_second_download_verifies_and_fetches_nothing(published, out, model, faults):
    first = fetch(published, out)
    requests = len(faults.requests("/resolve/"))
    assert fetch(published, out) == first
    assert len(faults.requests("/resolve/")) == requests


def test_a_damaged_file_of_an_earlier_attempt_is_fetched_again(published, out, model):
    out.mkdir()
    size = (model / SHARD).stat().st_size
    (out / SHARD).write_bytes(b"\0" * size)
    fetch(published, out)
    assert_same(out, model)


@pytest.mark.parametrize("size", [100, 10**6])
def test_a_damaged_part_is_dropped_and_the_file_fetched_from_the_start(published, out, model, size):
    out.mkdir()
    (out / f"{SHARD}.part").write_bytes(b"\0" * size)
    fetch(published, out)
    assert_same(out, model)


def test_a_cut_download_goes_on_where_it_stopped(published, out, model, faults):
    faults.add(CutAfter(3000), SHARD)
    faults.add(CutAfter(5000), SHARD)
    fetch(published, out)
    assert_same(out, model)
    asked = [request.range for request in faults.requests(SHARD)]
    assert asked == [None, "bytes=3000-", "bytes=8000-"]


def test_a_server_that_ignores_ranges_still_completes_a_part(published, out, model, faults):
    faults.add(CutAfter(3000), SHARD)
    faults.add(IgnoreRange(), SHARD)
    fetch(published, out)
    assert_same(out, model)
    assert len(faults.requests(SHARD)) == 2


def test_a_line_that_breaks_again_and_again_is_not_given_up_while_bytes_arrive(
    published, out, model, faults
):
    faults.add(CutAfter(1000), SHARD, times=2 * QUICK.attempts)
    fetch(published, out)
    assert_same(out, model)


def test_a_file_at_another_origin_is_continued_there_and_the_token_is_not_sent_along(
    hub, published, out, model, faults
):
    elsewhere = hub.url.replace("127.0.0.1", "localhost")
    faults.add(Moved(elsewhere), SHARD)
    faults.add(CutAfter(3000), SHARD)
    faults.add(Moved(elsewhere), SHARD)
    download_model(resolve_model(published, "main"), out, OWNER, patience=QUICK)
    assert_same(out, model)
    asked = [(request.authorized, request.range) for request in faults.requests(SHARD)]
    resumed = "bytes=3000-"
    assert asked == [(True, None), (False, None), (True, resumed), (False, resumed)]


def test_one_wrong_answer_is_asked_for_again(published, out, model, faults):
    faults.add(WrongBytes(), SHARD)
    fetch(published, out)
    assert_same(out, model)


def test_failures_that_pass_are_waited_for(published, out, model, faults):
    faults.add(Refuse(500), SHARD)
    faults.add(Refuse(429, retry_after_s=0), SHARD)
    fetch(published, out)
    assert_same(out, model)


def test_progress_is_counted_in_bytes_and_ends_at_the_total(published, out, faults):
    faults.add(WrongBytes(), SHARD)
    faults.add(CutAfter(3000), "model-00003")
    seen: list[tuple[int, int]] = []
    resolved = resolve_model(published, "main")
    download_model(
        resolved, out, None, lambda done, total: seen.append((done, total)), patience=QUICK
    )
    assert {total for _, total in seen} == {resolved.size_bytes}
    assert max(done for done, _ in seen) == resolved.size_bytes


SCRIPT = [
    sys.executable,
    "-c",
    "import sys; from pathlib import Path; from tasks.core.hub.download.model import *\n"
    "download_model(resolve_model(sys.argv[1], 'main'), Path(sys.argv[2]))",
]


def test_a_killed_download_goes_on_where_it_stopped(owner, published, out, model, faults):
    """A 24 MiB shard, delivered slowly; the process dies in the middle of it."""
    big = (model / SHARD).read_bytes() + os.urandom(24 << 20)
    owner.upload_file(path_or_fileobj=big, path_in_repo=SHARD, repo_id=published)
    faults.add(Slow(0.02), SHARD)
    process = subprocess.Popen([*SCRIPT, published, str(out)])
    try:
        part = out / f"{SHARD}.part"
        deadline = time.monotonic() + 600
        while not (part.exists() and part.stat().st_size > 4 << 20):
            assert process.poll() is None, "the download ended before it could be killed"
            assert time.monotonic() < deadline
            time.sleep(0.01)
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    kept = part.stat().st_size
    assert not (out / SHARD).exists()
    written = fetch(published, out)
    assert written.files[SHARD].sha256 == hashlib.sha256(big).hexdigest()
    assert (out / SHARD).read_bytes() == big
    assert faults.requests(SHARD)[-1].range == f"bytes={kept}-"
    assert faults.requests(SHARD)[-1].body_bytes == len(big) - kept
