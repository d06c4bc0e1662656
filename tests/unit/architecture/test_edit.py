import json
import logging
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from tasks.core.architecture.edit import TRAVELLING_CODE, edit_model
from tasks.core.errors import CorruptWeights, NotAModel, RecipeError, UsageError
from tasks.core.files.digests import digest_of
from tasks.core.recipe import ActivationEdit, Edit, RopeScalingEdit
from tests.models import tiny_llama
from tests.unit.architecture.conftest import GELU_IN_THE_LAST


def _set(path: Path, **members: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **members}))


def _edit(model: Path, out: Path, edit: Edit = GELU_IN_THE_LAST) -> None:
    out.mkdir(exist_ok=True)
    edit_model(model, edit, out)


def test_model_of_another_architecture_is_refused(stock: Path, tmp_path: Path) -> None:
    _set(stock / "config.json", model_type="mistral")
    with pytest.raises(NotAModel, match=r"not a LLaMA(.|\n)*mistral"):
        _edit(stock, tmp_path / "out")


def test_model_with_code_of_its_own_is_refused(stock: Path, tmp_path: Path) -> None:
    _set(stock / "config.json", auto_map={"AutoConfig": "configuration_x.XConfig"})
    with pytest.raises(NotAModel, match="brings its own code"):
        _edit(stock, tmp_path / "out")


def test_tokenizer_with_code_of_its_own_is_refused(stock: Path, tmp_path: Path) -> None:
    _set(stock / "tokenizer_config.json", auto_map={"AutoTokenizer": ["tokenization_x.X", None]})
    with pytest.raises(NotAModel, match="tokenizer brings its own code"):
        _edit(stock, tmp_path / "out")


def test_edited_model_is_not_edited_again(edited: Path, tmp_path: Path) -> None:
    with pytest.raises(NotAModel, match="edited already"):
        _edit(edited, tmp_path / "again")


@pytest.mark.parametrize("content", ["", "[]", '{"model_type": "llama", "hidden_size": 33}'])
def test_unusable_configuration_is_refused(stock: Path, tmp_path: Path, content: str) -> None:
    (stock / "config.json").write_text(content)
    with pytest.raises(NotAModel, match=r"config\.json"):
        _edit(stock, tmp_path / "out")


def test_missing_shard_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    model = tiny_llama(tmp_path / "sharded", sharded=True)
    min(model.glob("model-*.safetensors")).unlink()
    with pytest.raises(CorruptWeights):
        _edit(model, tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


def test_model_without_tokenizer_is_refused(stock: Path, tmp_path: Path) -> None:
    (stock / "tokenizer.json").unlink()
    with pytest.raises(NotAModel, match="no tokenizer"):
        _edit(stock, tmp_path / "out")


def test_impossible_edit_leaves_what_stood_in_the_directory(stock: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "kept").touch()
    impossible = Edit(activations=(ActivationEdit(layers=(9,), activation="gelu"),))
    with pytest.raises(RecipeError):
        _edit(stock, tmp_path / "out", impossible)
    assert (tmp_path / "out" / "kept").exists()


@pytest.mark.parametrize("place", [".", "inside", ".."])
def test_output_in_or_around_the_source_is_refused(stock: Path, place: str) -> None:
    with pytest.raises(UsageError, match="must lie outside"):
        _edit(stock, stock / place)
    assert (stock / "config.json").exists()


def test_read_only_weights_are_linked_and_nothing_of_them_is_written(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = tiny_llama(tmp_path / "sealed", sharded=True)
    for path in model.iterdir():
        path.chmod(0o444)
    (tmp_path / "out").mkdir()
    caplog.set_level(logging.INFO)
    written = edit_model(model, GELU_IN_THE_LAST, tmp_path / "out")
    assert {file.method for file in written.shared} == {"hardlink"}
    for file in written.shared:
        assert file.source.samefile(tmp_path / "out" / file.name)
        assert (tmp_path / "out" / file.name).stat().st_mode & 0o222 == 0
    assert written.shared_bytes > written.own_bytes > 0
    assert ": hard links" in caplog.text


def test_removing_either_directory_leaves_the_other_whole(tmp_path: Path) -> None:
    model = tiny_llama(tmp_path / "sealed")
    weights = model / "model.safetensors"
    weights.chmod(0o444)
    before = digest_of(weights)
    _edit(model, tmp_path / "out")
    weights.unlink()
    assert digest_of(tmp_path / "out" / "model.safetensors") == before


def test_writable_weights_are_never_linked(
    stock: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _edit(stock, tmp_path / "out")
    copied = tmp_path / "out" / "model.safetensors"
    before = digest_of(copied)
    with (stock / "model.safetensors").open("r+b") as file:
        file.seek(-4, os.SEEK_END)
        file.write(b"\xff\xff\xff\xff")
    assert digest_of(copied) == before != digest_of(stock / "model.safetensors")


def test_symbolic_links_of_a_download_cache_are_followed(stock: Path, tmp_path: Path) -> None:
    blob = tmp_path / "blob"
    (stock / "model.safetensors").rename(blob)
    (stock / "model.safetensors").symlink_to(blob)
    blob.chmod(0o444)
    _edit(stock, tmp_path / "out")
    assert not (tmp_path / "out" / "model.safetensors").is_symlink()
    assert (tmp_path / "out" / "model.safetensors").samefile(blob)


def test_leftover_of_a_killed_attempt_is_replaced_and_never_written_through(
    tmp_path: Path,
) -> None:
    model = tiny_llama(tmp_path / "sealed")
    for path in model.iterdir():
        path.chmod(0o444)
    before = {path.name: digest_of(path) for path in model.iterdir()}
    out = tmp_path / "out"
    (out / "half").mkdir(parents=True)
    (out / "model-00001-of-00009.safetensors").write_text("of another model")
    for name in before:
        (out / name).hardlink_to(model / name)
    _edit(model, out)
    assert {path.name: digest_of(path) for path in model.iterdir()} == before
    assert not (out / "half").exists()
    assert [path.name for path in out.glob("*.safetensors")] == ["model.safetensors"]


def test_directory_holds_weights_tokenizer_configuration_and_code_and_nothing_else(
    stock: Path, tmp_path: Path
) -> None:
    for name in ("adapter_config.json", "optimizer.pt", "README.md", "manifest.json", "LICENSE"):
        (stock / name).write_text("{}")
    _edit(stock, tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "LICENSE",
        "config.json",
        "configuration_kawan_usaha.py",
        "generation_config.json",
        "model.safetensors",
        "modeling_kawan_usaha.py",
        "tokenizer.json",
        "tokenizer_config.json",
    ]


def test_travelling_names_do_not_select_another_adapter_of_fastchat(edited: Path) -> None:
    model_type = json.loads((edited / "config.json").read_text())["model_type"]
    names = [model_type, *(path.name for path in TRAVELLING_CODE)]
    assert not [name for name in names if "vicuna" in name.lower() or "peft" in name.lower()]


def test_travelling_code_imports_torch_and_transformers_alone() -> None:
    from transformers.dynamic_module_utils import get_imports

    imported = {name for path in TRAVELLING_CODE for name in get_imports(path)}
    assert imported <= {"torch", "transformers", "copy", "typing"}


def test_configuration_differs_from_the_source_in_nothing_but_the_edit(
    stock: Path, edited: Path
) -> None:
    before, after = (json.loads((path / "config.json").read_text()) for path in (stock, edited))
    changed = {name for name in before | after if before.get(name) != after.get(name)}
    assert changed == {"architectures", "auto_map", "hidden_acts", "model_type"}
    assert after["hidden_acts"] == ["silu", "silu", "gelu"]


@pytest.mark.parametrize("named", [True, False])
def test_tokenizer_stays_the_same(stock: Path, edit_into: Callable[..., Path], named: bool) -> None:
    if not named:
        path = stock / "tokenizer_config.json"
        settings = json.loads(path.read_text())
        del settings["tokenizer_class"]
        path.write_text(json.dumps(settings))
    edited = edit_into(stock)
    before = AutoTokenizer.from_pretrained(stock)
    after = AutoTokenizer.from_pretrained(edited, trust_remote_code=True)
    text = "Berapa modal awal untuk warung kopi? 1.500.000 rupiah"
    assert type(after) is type(before)
    assert after(text).input_ids == before(text).input_ids


def test_longer_context_lengthens_the_tokenizer_s_limit(
    stock: Path, edit_into: Callable[..., Path]
) -> None:
    _set(stock / "tokenizer_config.json", model_max_length=2048)
    edited = edit_into(stock, Edit(activations=(), rope_scaling=RopeScalingEdit(factor=4.0)))
    assert json.loads((edited / "tokenizer_config.json").read_text())["model_max_length"] == 8192
