"""Files for a Hub on this machine: opened, hashed once, and no longer sent once the work ends."""

import hashlib
import threading
from pathlib import Path

import pytest

from tasks.core.hub.publish.to_hub.sending import additions
from tasks.core.system.threads import run_all

HERE = "http://127.0.0.1:1"


class Boom(Exception):
    """The error of another file."""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"weights" * 1000)
    return path


def test_a_file_on_its_way_ends_when_another_one_fails(file):
    begun = threading.Event()

    def send() -> None:
        with additions(HERE, {file.name: file}) as [added], added.as_file() as opened:
            while True:
                opened.seek(0)
                opened.read(100)
                begun.set()

    def fail() -> None:
        assert begun.wait(60)
        raise Boom

    with pytest.raises(Boom):
        run_all([send, fail], threads=2, name="test", stop=lambda: None)


def test_a_file_whose_digest_is_known_is_not_hashed_by_the_client(file):
    with additions(HERE, {file.name: file}) as [added]:
        assert not added.upload_info.is_hashed


def test_a_file_whose_digest_is_not_known_has_it_when_it_is_asked_for(file):
    with additions(HERE, {file.name: file}) as [added]:
        assert added.upload_info.sha256 == hashlib.sha256(file.read_bytes()).digest()
        with added.as_file() as opened:
            assert opened.read() == file.read_bytes()
