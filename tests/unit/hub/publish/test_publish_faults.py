"""What can go wrong while publishing: each cause has its own advice, and main stays whole."""

import os
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import replace

import pytest

from tasks.core.errors import (
    FileChanged,
    HubError,
    HubQuotaExceeded,
    HubUnavailable,
    KawanUsahaError,
    RecipeError,
    UploadCorrupt,
    UsageError,
    WrongToken,
)
from tasks.core.files.digests import digest_of
from tasks.core.hub.client import api
from tasks.core.hub.publish.files import wanted_files
from tasks.core.hub.publish.license import ACCEPTANCE, LLAMA_1_TERMS
from tasks.core.hub.publish.publication import Publication
from tasks.core.hub.publish.to_hub.protocol import publish_to_hub
from tasks.core.hub.publish.to_hub.repository import HubRepository
from tasks.core.hub.publish.to_hub.upload import Upload, upload
from tasks.core.hub.publish.to_hub.verify import verify_upload
from tasks.core.progress import silent
from tasks.core.recipe import Publish
from tests.hub_faults import CutAfter, Refuse
from tests.unit.hub.publish.world import READER, REPO, TARGET, Build, PublishHub

ALWAYS = 10**6


@pytest.fixture
def copied(edited, tmp_path) -> Build:
    """A build whose files may be spoiled."""
    return replace(edited, model=shutil.copytree(edited.model, tmp_path / "copied"))


def _refusal(hub: PublishHub, kind: type[KawanUsahaError], action: Callable[[], object]) -> str:
    """Return the text of the error, after a look at what every one of them must have."""
    with pytest.raises(kind) as caught:
        action()
    assert type(caught.value) is kind
    assert caught.value.next_step
    assert "hf_writer" not in str(caught.value) and "hf_reader" not in str(caught.value)
    assert hub.visible() == {}
    return str(caught.value)


def _remote(deadline_s: float = 600.0) -> HubRepository:
    return HubRepository(api(), REPO, deadline_s)


def _uploaded(hub: PublishHub, build: Build) -> tuple[HubRepository, Upload]:
    """Bring a build to its branch, and no further."""
    remote = _remote()
    hub.api.create_repo(REPO, private=True)
    hub.api.create_branch(REPO, branch="build-x")
    wanted = wanted_files(build.model, build.files, build.card)
    return remote, upload(remote, "build-x", wanted, on_progress=silent)


# --- who may do what -----------------------------------------------------------------------


def test_without_a_token_the_advice_is_to_make_one(hub, edited, monkeypatch):
    monkeypatch.delenv("HF_TOKEN")
    told = _refusal(hub, WrongToken, edited.publish)
    assert "needs a token" in told and "export HF_TOKEN" in told


def test_a_token_that_only_reads_is_named_before_anything_is_sent(hub, edited):
    told = _refusal(hub, WrongToken, lambda: edited.publish(token=READER))
    assert "may read, but not write" in told
    assert not hub.writes()


def test_a_token_that_the_hub_does_not_know_is_not_accepted(hub, edited):
    assert "rejects" in _refusal(hub, WrongToken, lambda: edited.publish(token="hf_no"))


def test_the_namespace_of_somebody_else_is_refused(hub, edited):
    target = Publish(repo="stranger/usaha", license="apache-2.0")
    told = _refusal(hub, WrongToken, lambda: edited.publish(target))
    assert "stranger/usaha" in told


def test_a_name_that_another_type_has_is_called_taken(hub, edited):
    hub.faults.add(Refuse(409, "You already created this space"), "/repos/create", method="POST")
    assert "another repository type" in _refusal(hub, HubError, edited.publish)


def test_a_public_repository_is_not_used_for_a_private_model(hub, edited):
    hub.api.create_repo(REPO, private=False)
    assert "is public" in _refusal(hub, HubError, edited.publish)


def test_a_recipe_for_a_bucket_is_not_published_to_a_hub(hub, edited):
    _refusal(hub, UsageError, lambda: edited.publish(Publish(target="memory://x")))


@pytest.mark.parametrize("build", ["", "a..b", "a/b", "x.lock", "-a", "a" * 81])
def test_a_build_that_cannot_name_a_branch_is_refused(hub, edited, build):
    told = _refusal(hub, UsageError, replace(edited, name=build).publish)
    assert "not a valid name for a build" in told


# --- what the card and the licence forbid --------------------------------------------------


def test_a_public_repository_of_llama_1_weights_needs_the_sentence(hub, edited):
    card = edited.card.replace(
        "license: apache-2.0", f"license: other\nlicense_name: {LLAMA_1_TERMS.license_name}"
    )
    target = Publish(repo=REPO, private=False)
    told = _refusal(
        hub,
        RecipeError,
        lambda: publish_to_hub(Publication(edited.model, edited.files, card, "x"), target),
    )
    assert ACCEPTANCE in told
    assert not hub.faults.requests("create", method="POST")


def test_a_card_that_the_hub_would_refuse_is_refused_before_anything_is_sent(hub, edited):
    card = edited.card.replace("license: apache-2.0", "license: my-own")
    _refusal(
        hub,
        RecipeError,
        lambda: publish_to_hub(Publication(edited.model, edited.files, card, "x"), TARGET),
    )
    assert not hub.faults.served[1:]  # the look at main by the test itself


# --- what the Hub answers ------------------------------------------------------------------


def test_a_full_account_is_told_by_the_large_file_store(hub, edited):
    limit = "Private repository storage limit reached, please upgrade your plan"
    hub.faults.add(Refuse(403, limit), "objects/batch", method="POST", times=ALWAYS)
    told = _refusal(hub, HubQuotaExceeded, edited.publish)
    assert limit in told and "publish.target" in told
    assert len(hub.faults.requests("objects/batch", method="POST")) == 1


def test_an_unpaid_account_is_told_by_the_commit(hub, edited):
    hub.faults.add(Refuse(402, "Payment required"), "/commit/", method="POST", times=ALWAYS)
    _refusal(hub, HubQuotaExceeded, edited.publish)
    assert len(hub.faults.requests("/commit/", method="POST")) == 1


def test_a_repository_that_moved_meanwhile_is_not_written_over(hub, edited):
    hub.faults.add(Refuse(412, "A commit has happened since"), "/commit/", method="POST")
    assert "Somebody else" in _refusal(hub, HubError, edited.publish)


def test_a_refusal_is_not_asked_again(hub, edited):
    hub.faults.add(Refuse(400, "No"), "/branch/", method="POST", times=ALWAYS)
    _refusal(hub, HubError, edited.publish)
    assert len(hub.faults.requests("/branch/", method="POST")) == 1


def test_a_long_wait_is_told_instead_of_waited_for(hub, edited):
    slow_down = Refuse(429, "Too many requests", retry_after_s=3600)
    hub.faults.add(slow_down, "/repos/create", method="POST")
    told = _refusal(hub, HubUnavailable, edited.publish)
    assert "in 3600 s" in told
    assert len(hub.faults.requests("/repos/create", method="POST")) == 1


def test_a_short_wait_is_waited_for(hub):
    hub.api.create_repo(REPO)
    hub.faults.add(Refuse(429, "Too many requests", retry_after_s=1), "/refs$")
    remote, began = _remote(), time.monotonic()
    assert remote.call(remote.branches).keys() == {"main"}
    assert time.monotonic() - began >= 1


def test_a_server_that_fails_once_is_asked_again(hub):
    hub.api.create_repo(REPO)
    hub.faults.add(Refuse(503), "/refs$")
    remote = _remote()
    assert remote.call(remote.branches).keys() == {"main"}


def test_a_server_that_keeps_failing_is_given_up_at_the_deadline(hub):
    hub.api.create_repo(REPO)
    hub.faults.add(Refuse(500), "/refs$", times=ALWAYS)
    remote = _remote(deadline_s=2)
    with pytest.raises(HubUnavailable, match="within 2 s of the first failure"):
        remote.call(remote.branches)
    assert len(hub.faults.requests("/refs$")) == 2


def test_a_commit_whose_answer_was_lost_is_not_made_twice(hub, edited):
    hub.faults.add(CutAfter(0), "/commit/", method="POST")
    _, done = _uploaded(hub, edited)
    branch = hub.api.list_repo_commits(REPO, revision="build-x")
    assert branch[0].commit_id == done.commit
    assert len(branch) == 2  # the Hub's own first commit, and this one


def test_a_hub_that_is_not_there_is_out_of_reach(monkeypatch, edited):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("HF_TOKEN", "hf_writer")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
    with pytest.raises(HubUnavailable, match="cannot be reached"):
        edited.publish(deadline_s=0)


# --- what becomes of the files -------------------------------------------------------------


def test_a_file_that_changed_since_it_was_built_is_not_sent(hub, copied):
    path = copied.model / "model.safetensors"
    path.write_bytes(bytes(path.stat().st_size))
    told = _refusal(hub, FileChanged, copied.publish)
    assert "model.safetensors is not the file that was built" in told
    assert hub.uploads.received_bytes == 0


def test_a_small_file_that_changed_is_noticed_too(hub, copied):
    path = copied.model / "config.json"
    path.write_bytes(b" " * path.stat().st_size)
    assert "config.json" in _refusal(hub, FileChanged, copied.publish)


def test_a_file_that_changes_while_it_is_sent_ends_the_publish(hub, copied):
    hub.uploads.hold_from = 0

    def change_it() -> None:
        assert hub.uploads.held.wait(60)
        os.truncate(copied.model / "model.safetensors", 10)
        hub.uploads.go_on.set()

    changer = threading.Thread(target=change_it)
    changer.start()
    told = _refusal(hub, FileChanged, copied.publish)
    changer.join()
    assert "than when the upload began" in told


def test_files_that_are_not_what_was_sent_are_found_where_they_arrived(hub, edited):
    remote, done = _uploaded(hub, edited)
    wanted = wanted_files(edited.model, edited.files, edited.card)
    for name in ("config.json", "model.safetensors", "stranger.txt"):
        hub.api.upload_file(
            path_or_fileobj=b"other", path_in_repo=name, repo_id=REPO, revision="build-x"
        )
    hub.api.delete_file("tokenizer.json", REPO, revision="build-x")
    changed = remote.branches()["build-x"]
    assert changed != done.commit
    with pytest.raises(UploadCorrupt) as caught:
        verify_upload(remote, changed, wanted)
    assert caught.value.found == (
        "tokenizer.json is missing; stranger.txt is not part of the build; "
        "config.json has other bytes; model.safetensors has other bytes"
    )


def test_a_model_whose_code_does_not_load_never_reaches_main(hub, copied, preforked_probe):
    code = copied.model / "modeling_tiny_edited.py"
    code.write_text("raise RuntimeError('this code is broken')")
    broken = replace(copied, files={**copied.files, code.name: digest_of(code)})
    told = _refusal(hub, UploadCorrupt, broken.publish)
    assert "this code is broken" in told
