"""What the plan says of the remote store before anything is started."""

import logging
import socket
from pathlib import Path

import pytest

from tasks.core.errors import SigningKeyUnusable, StorageRefused
from tasks.core.storage import urls as storage
from tasks.plan import require_remote
from tests.s3_server import use
from tests.signing_keys import make_pair


def test_one_that_cannot_be_used_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KAWAN_USAHA_REMOTE", f"file://{tmp_path}/nowhere")
    with pytest.raises(StorageRefused, match="mount it"):
        require_remote()


def test_one_that_is_out_of_reach_is_only_said(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.socket() as taken, caplog.at_level(logging.INFO):  # bound, and never listening
        taken.bind(("127.0.0.1", 0))
        use(monkeypatch, f"http://127.0.0.1:{taken.getsockname()[1]}")
        monkeypatch.setenv("KAWAN_USAHA_REMOTE", "s3://bucket/artifacts")
        require_remote()
    assert "cannot be reached" in caplog.text


def test_one_that_is_silent_is_given_up_in_time(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(storage, "WITHIN_S", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections, never answers
        use(monkeypatch, f"http://127.0.0.1:{silent.getsockname()[1]}")
        monkeypatch.setenv("KAWAN_USAHA_REMOTE", "s3://bucket/artifacts")
        require_remote()
    assert "does not answer" in caplog.text
    assert "within 0.5 s" in caplog.text


def test_without_one_nothing_is_said(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv("KAWAN_USAHA_REMOTE", raising=False)
    with caplog.at_level(logging.INFO):
        require_remote()
    assert caplog.text == ""


@pytest.mark.parametrize("signs", ["nothing", "with another key", "with a trusted key"])
def test_that_others_would_refuse_what_is_built_here_is_said(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    signs: str,
) -> None:
    (tmp_path / "shared").mkdir()
    monkeypatch.setenv("KAWAN_USAHA_REMOTE", f"file://{tmp_path}/shared")
    trusted = make_pair(tmp_path, "trusted")
    monkeypatch.setenv("KAWAN_USAHA_TRUSTED_KEYS", str(trusted.public))
    if signs != "nothing":
        pair = trusted if signs == "with a trusted key" else make_pair(tmp_path, "other")
        pair.use(monkeypatch)
    with caplog.at_level(logging.INFO):
        require_remote()
    assert ("will refuse it" in caplog.text) == (signs != "with a trusted key")


def test_a_file_of_trusted_keys_that_is_not_there_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KAWAN_USAHA_REMOTE", f"file://{tmp_path}")
    monkeypatch.setenv("KAWAN_USAHA_TRUSTED_KEYS", str(tmp_path / "none.pub"))
    with pytest.raises(SigningKeyUnusable):
        require_remote()
