"""The embedded Hub as a process of its own: killed, restarted, and used by transformers."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from huggingface_hub import HfApi

from tasks.core.demo.hub import running_hub
from tasks.core.errors import UsageError
from tests.prefork import preforked

SHARD = "model-00001-of-00005.safetensors"


REALLY = (sys.executable, "-m", "tasks.core.demo.hub")


def start(root: Path, command: Sequence[str] = REALLY) -> tuple[subprocess.Popen[bytes], str]:
    ready = root.with_name("ready")
    ready.unlink(missing_ok=True)
    process = subprocess.Popen([*command, "--root", str(root), "--ready-file", str(ready)])
    deadline = time.monotonic() + 600
    while not ready.exists():
        assert process.poll() is None, "the server ended before it was ready"
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return process, ready.read_text().strip()


def test_everything_is_there_after_the_server_was_killed(tmp_path, model):
    root = tmp_path / "hub"
    process, url = start(root)
    try:
        token = next(iter(json.loads((root / "tokens.json").read_text())))
        client = HfApi(endpoint=url, token=token)
        client.create_repo("kawan-usaha/model", private=True)
        commit = client.upload_folder(repo_id="kawan-usaha/model", folder_path=model).oid
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        process, url = start(root, preforked("torch", "tasks.core.demo.hub"))
        client = HfApi(endpoint=url, token=token)
        assert client.model_info("kawan-usaha/model").sha == commit
        copy = Path(client.snapshot_download("kawan-usaha/model", cache_dir=tmp_path / "cache"))
        assert (copy / SHARD).read_bytes() == (model / SHARD).read_bytes()
        process.terminate()
        assert process.wait(timeout=600) in (0, -signal.SIGTERM)
    finally:
        process.kill()
        process.wait()


def test_its_token_is_readable_by_its_owner_only(tmp_path):
    with running_hub(tmp_path / "hub") as hub:
        assert hub.token.startswith("hf_")
        assert hub.token not in repr(hub)
    assert (tmp_path / "hub").stat().st_mode & 0o077 == 0


def test_in_a_directory_that_was_open_to_all_its_secrets_are_not(tmp_path):
    root = tmp_path / "hub"
    root.mkdir(mode=0o755)
    with running_hub(root) as hub:
        client = HfApi(endpoint=hub.url, token=hub.token)
        client.create_repo("kawan-usaha/model", private=True)
        client.upload_file(
            path_or_fileobj=b"a secret", path_in_repo="notes", repo_id="kawan-usaha/model"
        )
    open_to_others = {path.name for path in root.iterdir() if path.stat().st_mode & 0o077}
    assert open_to_others == {".lock"}


def test_a_second_server_is_told_who_serves_the_directory(tmp_path):
    with (
        running_hub(tmp_path / "hub"),
        pytest.raises(UsageError, match=rf"held by embedded Hub \(pid {os.getpid()} on "),
        running_hub(tmp_path / "hub"),
    ):
        raise AssertionError("two servers in one directory")


def test_tokens_that_an_earlier_version_left_open_are_closed(tmp_path, caplog):
    root = tmp_path / "hub"
    with running_hub(root) as hub:
        first = hub.token
    (root / "tokens.json").chmod(0o644)
    with running_hub(root) as hub:
        assert hub.token == first
    assert (root / "tokens.json").stat().st_mode & 0o077 == 0
    assert "tokens.json was open to other users" in caplog.text


def test_transformers_loads_a_model_through_hf_endpoint(hub, published, model, tmp_path):
    environment = {
        **os.environ,
        "HF_ENDPOINT": hub.url,
        "HF_HOME": str(tmp_path / "fresh"),
        "OMP_NUM_THREADS": "1",
    }
    loading = preforked("torch", "tests.unit.demo.hub.loading", published, str(model))
    subprocess.run(loading, env=environment, check=True)
