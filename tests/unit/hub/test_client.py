"""The Hub's failures in our own words."""

import errno
import os
import pickle
import socket
import subprocess
import sys

import pytest
from huggingface_hub.errors import LocalEntryNotFoundError, OfflineModeIsEnabled

from tasks.core.errors import (
    DiskFull,
    GatedRepository,
    HubError,
    HubOffline,
    HubUnavailable,
    RepositoryNotFound,
    RevisionNotFound,
    UsageError,
    WrongToken,
)
from tasks.core.hub.client import api, endpoint, is_on_this_machine, usable_token
from tasks.core.hub.errors import translated
from tests.hub_faults import CutAfter, Refuse
from tests.unit.hub.conftest import OWNER, READER, STRANGER


def ask(repo: str, token: str | None = None, revision: str = "main") -> None:
    with translated(repo, revision):
        api(token).model_info(repo, revision=revision)


def test_an_unknown_repository_tells_about_spelling_and_tokens(hub):
    with pytest.raises(RepositoryNotFound, match="no such repository") as told:
        ask("warung/nothing", OWNER)
    assert told.value.where == f"{hub.url}/warung/nothing"
    assert "export HF_TOKEN" in told.value.next_step
    assert not told.value.retryable


@pytest.mark.parametrize("token", [None, STRANGER])
def test_a_private_repository_reads_as_unknown(owner, token):
    owner.create_repo("warung/secret", private=True)
    with pytest.raises(RepositoryNotFound):
        ask("warung/secret", token)


def test_an_unknown_revision_is_named(published):
    with pytest.raises(RevisionNotFound) as told:
        ask(published, revision="v9")
    assert told.value.found == "v9"


@pytest.mark.parametrize("token", [None, STRANGER])
def test_a_gated_repository_says_where_to_accept_its_terms(hub, owner, published, token):
    owner.update_repo_settings(published, gated="manual")
    with pytest.raises(GatedRepository) as told, translated(published):
        api(token).auth_check(published)
    assert f"Open {hub.url}/{published} in a browser" in told.value.next_step


def test_an_unknown_token_is_told_from_an_unknown_repository_and_not_shown(published):
    with pytest.raises(WrongToken) as told:
        ask(published, "hf_invented")
    assert "hf_invented" not in f"{told.value}{told.value.__cause__}"


def test_a_read_token_may_not_write(published):
    with pytest.raises(WrongToken, match="forbids") as told, translated(published):
        api(READER).create_tag(published, tag="v1")
    assert "read rights only" in told.value.found


@pytest.mark.parametrize("token", ["hf_a b", "hf_a\nb", "hf_é"])
def test_what_cannot_be_a_token_is_refused_without_being_shown(hub, token):
    with pytest.raises(WrongToken) as told:
        ask("warung/model", token)
    assert token not in str(told.value)


def test_too_many_requests_tell_how_long_to_wait_and_may_be_retried(published, faults):
    faults.add(Refuse(429, "rate limit", retry_after_s=17), "/api/models/")
    with pytest.raises(HubUnavailable, match="limiting the rate") as told:
        ask(published)
    assert told.value.next_step == "Try again in 17 s."
    assert told.value.retryable


@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_a_failing_hub_may_be_retried(published, faults, status):
    faults.add(Refuse(status), "/api/models/")
    with pytest.raises(HubUnavailable) as told:
        ask(published)
    assert str(status) in told.value.found
    ask(published)


def test_another_refusal_is_passed_on_with_the_hubs_words(published, faults):
    faults.add(Refuse(418, "I'm a teapot"), "/api/models/")
    with pytest.raises(HubError, match="teapot") as told:
        ask(published)
    assert not told.value.retryable


def test_a_cut_connection_may_be_retried(published, faults):
    faults.add(CutAfter(10), "/api/models/")
    with pytest.raises(HubUnavailable, match="connection broke"):
        ask(published)


@pytest.mark.parametrize("host", ["127.0.0.1:{port}", "no-such-host.invalid"])
def test_a_hub_that_is_not_there_is_unavailable(monkeypatch, host):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        monkeypatch.setenv("HF_ENDPOINT", f"http://{host.format(port=unused.getsockname()[1])}")
        with pytest.raises(HubUnavailable) as told:
            ask("warung/model")
    assert told.value.where == endpoint()


def test_a_missing_cache_entry_stands_for_the_request_that_failed():
    with pytest.raises(HubUnavailable), translated("warung/model"):
        raise LocalEntryNotFoundError("cannot reach the Hub")


def test_a_failed_upload_is_told_by_its_cause(published, owner, faults, tmp_path):
    faults.add(Refuse(403, "Storage quota exceeded"), "/lfs/", method="PUT", times=9)
    (tmp_path / "w.bin").write_bytes(b"\0 new weights")
    with pytest.raises(WrongToken) as told, translated(published):
        owner.upload_file(
            path_or_fileobj=tmp_path / "w.bin", path_in_repo="w.bin", repo_id=published
        )
    assert told.value.found == "Storage quota exceeded"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_told(number):
    with pytest.raises(DiskFull) as told, translated("warung/model"):
        raise OSError(number, os.strerror(number), "/disk/model.safetensors")
    assert told.value.where == "/disk/model.safetensors"


def test_a_bug_is_not_taken_for_the_hubs_failure():
    with pytest.raises(ZeroDivisionError), translated("warung/model"):
        raise ZeroDivisionError


def test_a_name_that_cannot_be_a_repository_is_a_usage_error(hub):
    with pytest.raises(UsageError, match="not a repository name"):
        ask("warung/a..b")


def test_errors_survive_the_way_between_processes(hub):
    with pytest.raises(RepositoryNotFound) as told:
        ask("warung/nothing")
    assert str(pickle.loads(pickle.dumps(told.value))) == str(told.value)  # noqa: S301


def test_the_endpoint_is_read_when_it_is_needed(monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1/")
    assert endpoint() == "http://127.0.0.1:1"
    monkeypatch.delenv("HF_ENDPOINT")
    assert endpoint() == "https://huggingface.co"


def test_the_token_comes_from_the_environment_unless_one_is_given(hub, monkeypatch):
    assert usable_token() is None
    monkeypatch.setenv("HF_TOKEN", f"{OWNER}\n")
    assert usable_token() == OWNER
    assert usable_token(READER) == READER
    assert api().whoami()["name"] == "warung"


def test_the_login_of_huggingface_co_is_not_sent_to_another_endpoint(tmp_path):
    code = (
        "import os; from tasks.core.hub.client import usable_token as t\n"
        "print(t()); os.environ['HF_ENDPOINT'] = 'http://127.0.0.1:1'; print(t())"
    )
    (tmp_path / "token").write_text("hf_login")
    hidden = ("HF_ENDPOINT", "HF_TOKEN")
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    environment["HF_HOME"] = str(tmp_path)
    ran = subprocess.run(
        [sys.executable, "-c", code], env=environment, check=True, stdout=subprocess.PIPE
    )
    assert ran.stdout.decode().split() == ["hf_login", "None"]


@pytest.mark.parametrize(
    ("address", "is_here"),
    [
        ("http://127.0.0.1:8090", True),
        ("http://[::1]:8090", True),
        ("http://localhost", True),
        ("https://huggingface.co", False),
        ("http://10.0.0.7:8090", False),
    ],
)
def test_a_hub_on_this_machine_is_known_by_its_address(address, is_here):
    assert is_on_this_machine(address) is is_here


def test_a_hub_that_the_environment_forbids_to_ask_is_not_one_that_is_down() -> None:
    with pytest.raises(HubOffline) as told, translated("warung/model"):
        raise OfflineModeIsEnabled("offline")
    assert "`unset HF_HUB_OFFLINE`" in str(told.value.next_step)
    assert (told.value.retryable, told.value.exit_code) == (False, 2)
