"""An upload that is killed goes on where it stopped."""

import json
import signal
import subprocess
import sys
import threading

import pytest

from tasks.core.hub.client import api
from tasks.core.hub.publish.files import wanted_files
from tasks.core.hub.publish.to_hub.repository import HubRepository
from tasks.core.hub.publish.to_hub.upload import FILES_AT_ONCE, upload
from tasks.core.progress import silent
from tests.unit.hub.publish.world import REPO, Build, PublishHub

_PUBLISH = """
import json, sys
from pathlib import Path
from tasks.core.files.digests import FileDigest
from tests.unit.hub.publish.world import Build
name, model, files = json.load(sys.stdin)
files = {name: FileDigest(*digest) for name, digest in files.items()}
Build(name, Path(model), files).publish()
"""


def _publish_in_a_child(build: Build) -> subprocess.Popen[str]:
    files = {name: (file.size_bytes, file.sha256) for name, file in build.files.items()}
    child = subprocess.Popen(
        [sys.executable, "-c", _PUBLISH],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert child.stdin is not None
    json.dump([build.name, str(build.model), files], child.stdin)
    child.stdin.close()
    return child


def _kill_during_the_next_upload(hub: PublishHub, build: Build, after: int) -> None:
    """Start a publish and kill it with SIGKILL while uploads after `after` whole ones run."""
    hub.uploads.held.clear()
    hub.uploads.go_on.clear()
    hub.uploads.hold_from, hub.uploads.rest_is_lost = after, True
    child = _publish_in_a_child(build)
    try:
        assert hub.uploads.held.wait(120)
    finally:
        child.kill()
        assert child.wait() == -signal.SIGKILL
        hub.uploads.go_on.set()
        hub.uploads.hold_from = None
    assert hub.visible() == {}


@pytest.mark.slow
def test_an_upload_that_is_killed_three_times_sends_no_file_twice(hub, plain):
    for whole_ones in (1, 3, 4):
        _kill_during_the_next_upload(hub, plain, whole_ones)

    whole_before = set(hub.uploads.complete)
    receipt = plain.publish()

    weights = {
        file.sha256: file.size_bytes
        for name, file in plain.files.items()
        if name.endswith(".safetensors")
    }
    assert hub.uploads.complete == dict.fromkeys(weights, 1)
    sent_again = hub.uploads.received_bytes - sum(weights.values())
    assert 0 < sent_again < 3 * FILES_AT_ONCE * max(weights.values())
    assert hub.files().keys() == set(receipt.files)
    assert receipt.skipped_bytes == sum(
        plain.files[name].size_bytes for name in plain.files if name not in receipt.sent
    )
    assert len(whole_before) >= 4
    sent_now = {plain.files[name].sha256 for name in receipt.sent if name in plain.files}
    assert sent_now & weights.keys() == weights.keys() - whole_before


@pytest.mark.usefixtures("unproven")
def test_several_files_are_on_their_way_at_once_and_each_is_sent_once(hub, plain):
    hub.uploads.hold_from = 0

    def go_on_with_several() -> None:
        while hub.uploads.under_way < FILES_AT_ONCE and not ended.wait(0.01):
            pass
        hub.uploads.go_on.set()

    ended = threading.Event()
    releasing = threading.Thread(target=go_on_with_several)
    releasing.start()
    try:
        plain.publish()
    finally:
        ended.set()
        releasing.join()
    assert hub.uploads.most_at_once == FILES_AT_ONCE
    assert set(hub.uploads.complete.values()) == {1}


def test_a_kill_between_main_and_tag_leaves_only_the_tag_to_set(hub, edited, preforked_probe):
    hub.api.create_repo(REPO, private=True)
    hub.api.create_branch(REPO, branch="build-second")
    remote = HubRepository(api(), REPO, deadline_s=600)
    wanted = wanted_files(edited.model, edited.files, edited.card)
    head = remote.bring_to_main(
        upload(remote, "build-second", wanted, on_progress=silent).commit, "Publish second"
    )
    before = hub.uploads.received_bytes

    receipt = edited.publish()

    assert hub.refs() == ({"main"}, {"release-second"})
    assert (receipt.commit, receipt.sent_bytes) == (head.commit, 0)
    assert hub.uploads.received_bytes == before
