"""A Hub that says nothing, sends too little, or is fetched from onto a disk that runs full."""

import asyncio
import shutil
from pathlib import Path

import pytest
from starlette.types import ASGIApp, Receive, Scope, Send

from tasks.core.errors import HubUnavailable
from tasks.core.hub.download.file import Patience
from tasks.core.hub.download.model import download_model, resolve_model
from tests.faults.injector import DISK_FULL, FAILING_DISK, Fault
from tests.faults.survey import Work, files_in, survey

pytestmark = pytest.mark.slow

SHARD = "model-00002-of-00005.safetensors"
QUICK = Patience(attempts=3, first_wait_s=0.01)


class Silence:
    """Sends the headers, and then nothing for as long as anybody waits."""

    async def __call__(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while (await receive())["type"] != "http.disconnect":
            await asyncio.sleep(0)


class Shorter:
    """Says that the file has ended in the middle of it."""

    async def __call__(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        parts: list[bytes] = []

        async def keep(message: dict) -> None:
            parts.append(message.get("body", b""))

        await app(scope, receive, keep)
        body = b"".join(parts)[:3000]
        headers = [(b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client waits for an answer for less long than a person would."""
    monkeypatch.setattr("tasks.core.hub.download.file.TIMEOUT_S", 0.5)


def fetched(repo: str, out: Path) -> object:
    download_model(resolve_model(repo, "main"), out, patience=QUICK)
    return files_in(out)


@pytest.fixture
def whole(model: Path, tmp_path: Path) -> object:
    """The files that a download brings."""
    copy = shutil.copytree(model, tmp_path / "whole")
    (copy / "consolidated.00.pth").unlink()
    return files_in(copy)


@pytest.mark.parametrize("fault", [Silence(), Shorter()], ids=["no answer", "fewer bytes"])
@pytest.mark.usefixtures("hasty")
def test_a_download_goes_on_after_what_passes(fault, published, faults, whole, tmp_path):
    faults.add(fault, SHARD)
    assert fetched(published, tmp_path / "out") == whole


def test_a_hub_that_says_nothing_is_given_up_and_the_next_run_goes_on(
    published,
    faults,
    hasty,
    whole,
    tmp_path,
):
    silence = Silence()
    faults.add(silence, SHARD, times=99)
    with pytest.raises(HubUnavailable) as told:
        fetched(published, tmp_path / "out")
    assert "HF_ENDPOINT" in str(told.value.next_step)
    assert told.value.retryable
    faults.plans.remove(silence)
    arrived = len(faults.requests("model-00001"))
    assert fetched(published, tmp_path / "out") == whole
    assert len(faults.requests("model-00001")) == arrived, "it was there already"


def test_a_hub_that_keeps_on_sending_too_little_is_asked_for_the_rest(
    published,
    faults,
    hasty,
    whole,
    tmp_path,
):
    faults.add(Shorter(), SHARD, times=99)
    with pytest.raises(HubUnavailable):
        fetched(published, tmp_path / "out")
    assert {request.range for request in faults.requests(SHARD)} == {None, "bytes=3000-"}


@pytest.mark.parametrize("fault", [DISK_FULL, FAILING_DISK], ids=["full", "failing"])
def test_a_download_onto_a_disk_that_is_full_or_fails(
    fault: Fault,
    published: str,
    tmp_path: Path,
) -> None:
    resolved = resolve_model(published, "main")

    def work(root: Path) -> None:
        download_model(resolved, root / "out", patience=QUICK)

    done = Work(work, lambda root: files_in(root / "out"))
    found = survey(done, fault, tmp_path / "survey", at_most=40)
    assert found.wrong == []
    assert found.failed
