"""What the prepared examples of a model depend on."""

from datetime import UTC, datetime
from pathlib import Path

from tasks import prepare
from tasks.core.files.digests import digest_of
from tasks.core.store import Manifest
from tasks.core.store.manifest import write_manifest
from tasks.stage_result import StageResult
from tests.models import tiny_tokenizer


def test_a_freed_model_has_the_tokenizer_that_it_had_before(tmp_path: Path) -> None:
    """Else its examples would be made anew, from files that are no longer there."""
    names = ("config.json", "tokenizer.json", "additional_chat_templates/tool.jinja")
    tiny_tokenizer().save_pretrained(tmp_path)
    (tmp_path / "tokenizer_config.json").unlink()
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "additional_chat_templates").mkdir()
    (tmp_path / "additional_chat_templates/tool.jinja").write_text("tool")
    manifest = Manifest(
        stage="download",
        key="0" * 64,
        created_at=datetime.now(UTC),
        params=None,
        inputs={},
        files={name: digest_of(tmp_path / name) for name in names},
        wall_s=0.0,
        peak_memory_bytes=0,
    )
    write_manifest(tmp_path, manifest)
    model = StageResult(
        stage="base",
        artifact="model",
        digest="model",
        path=tmp_path,
        cached=False,
        wall_s=0.0,
        size_bytes=0,
        peak_memory_bytes=0,
    )
    there = prepare._tokenizer(model)
    assert there.keys() == {"tokenizer.json", "additional_chat_templates/tool.jinja"}
    assert prepare._tokenizer(model.model_copy(update={"freed": True})) == there
