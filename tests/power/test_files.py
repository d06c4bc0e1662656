"""What gets its name when it is whole, after a power cut: files, outputs, contents, examples."""

import json
from pathlib import Path

import pytest

from tasks.core.conversation.prepared import (
    DESCRIPTION,
    EXAMPLES,
    prepare_examples,
)
from tasks.core.demo.hub.blobs import BlobStore
from tasks.core.files.digests import sha256_of
from tasks.core.files.durable import named_when_whole, write_atomically
from tasks.core.files.output import WORK, staged_directory
from tasks.core.files.private import write_private
from tasks.core.keys import digest
from tasks.core.recipe import Finetune
from tests.models import tiny_tokenizer
from tests.power.recorder import recorded

_STARTER = Path(__file__).parents[2] / "data" / "conversation.json"


@pytest.mark.parametrize("write", [write_atomically, write_private])
def test_a_file_that_is_replaced_is_the_old_one_or_the_new_one(disk, survey, is_needed, write):
    def look(root: Path, promised: frozenset[str]) -> None:
        content = (root / "record.json").read_text()
        assert content in (promised or {"the old one", "the new one"})

    (disk / "record.json").write_text("the old one")
    with recorded(disk) as recording:
        write(disk / "record.json", "the new one")
        recording.promise("the new one")
    assert survey(recording, look).wrong == ()
    for sync in (".", ".tmp-*"):
        assert is_needed(recording, look, sync), sync


def test_a_large_file_is_whole_or_not_there(disk, survey):
    def look(root: Path, promised: frozenset[str]) -> None:
        if promised or (root / "large").exists():
            assert (root / "large").read_bytes() == b"one" * 9999 + b"two" * 9999

    with recorded(disk) as recording:
        with named_when_whole(disk / "large") as file:
            file.write(b"one" * 9999)
            file.write(b"two" * 9999)
        recording.promise("large")
    assert survey(recording, look).wrong == ()


def test_an_output_is_whole_or_not_there(disk, survey, is_needed):
    def look(root: Path, promised: frozenset[str]) -> None:
        out = root / "new" / "out"
        assert out.exists() or not promised
        if out.exists():
            assert (out / "deep/down/weights").read_bytes() == b"w" * 1000
            assert (out / "config.json").read_text() == "{}"
            assert {path.name for path in out.iterdir()} <= {"deep", "config.json", WORK}

    with recorded(disk) as recording:
        with staged_directory(disk / "new" / "out", {"command": "test"}) as staging:
            (staging / "deep" / "down").mkdir(parents=True)
            (staging / "deep" / "down" / "weights").write_bytes(b"w" * 1000)
            (staging / "config.json").write_text("{}")
        recording.promise("out")
    assert survey(recording, look).wrong == ()
    for sync in (".", "new", "*/weights", "*/config.json", "*/deep", "*/down"):
        assert is_needed(recording, look, sync), sync


def test_a_staging_directory_belongs_to_all_that_is_in_it(disk, survey, is_needed):
    """Half of what other work left, under that work's name, was gone on from when it came back."""
    work = {name: digest(name) for name in ("one", "two")}
    staging = disk / "out.partial"

    def stopped(name: str) -> None:
        with pytest.raises(KeyboardInterrupt), staged_directory(disk / "out", name):
            (staging / name).mkdir(exist_ok=True)
            write_atomically(staging / name / "state", name)
            write_atomically(staging / name / "marker", name)
            raise KeyboardInterrupt

    def look(root: Path, _: frozenset[str]) -> None:
        left = root / "out.partial"
        if (left / WORK).exists() and (left / WORK).read_text() == work["one"]:
            assert (left / "one" / "state").read_text() == "one"
        if (left / WORK).exists() and (left / WORK).read_text() == work["two"]:
            assert not (left / "one" / "marker").exists()

    stopped("one")
    with recorded(disk) as recording:
        stopped("two")
    assert survey(recording, look).wrong == ()
    assert is_needed(recording, look, "out.partial")


def test_a_content_of_the_hub_is_whole_or_not_there(disk, survey, is_needed):
    def look(root: Path, promised: frozenset[str]) -> None:
        blobs = root / "hub" / "objects"
        found = {path.parent.name + path.name: sha256_of(path) for path in blobs.glob("*/*")}
        assert all(name == digest for name, digest in found.items())
        assert found.keys() >= promised

    with recorded(disk) as recording:
        recording.promise(BlobStore(disk / "hub").add(b"content"))
    assert survey(recording, look).wrong == ()
    for sync in (".", "hub", "hub/objects", "hub/objects/*", "hub/incoming/*"):
        assert is_needed(recording, look, sync), sync


def test_examples_that_are_described_are_those_that_are_there(disk, survey, is_needed, tmp_path):
    def look(root: Path, _: frozenset[str]) -> None:
        if (root / DESCRIPTION).exists():
            described = json.loads((root / DESCRIPTION).read_bytes())
            assert sha256_of(root / EXAMPLES) == described["sha256"]

    model, data = tmp_path / "model", tmp_path / "conversation.json"
    tiny_tokenizer().save_pretrained(model)
    data.write_text(json.dumps(json.loads(_STARTER.read_text())[:12]))
    with recorded(disk) as recording:
        for share in (0.0, 0.4):
            settings = Finetune(validation_share=share, max_length_tokens=4096)
            prepare_examples(model, data, settings, "vicuna_v1.1", out=disk)
    assert survey(recording, look).wrong == ()
    for sync in (".", ".tmp-examples.safetensors"):
        assert is_needed(recording, look, sync), sync
