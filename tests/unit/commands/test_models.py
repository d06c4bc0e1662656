"""The commands on plain directories, given what people really have."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from tasks.core.files.digests import digest_of
from tasks.core.model.edit_fingerprint import FINGERPRINT_FILE, read_fingerprint
from tests.command_line import Run
from tests.models import tiny_delta, tiny_llama
from tests.unit.files.test_foreign import POINTER

pytestmark = pytest.mark.usefixtures("home", "preforked_children")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    for seed, name in enumerate(("a", "b", "base", "target"), start=1):
        tiny_llama(root / name, seed=seed)
    tiny_delta(root / "base", root / "target", root / "delta")
    return root


@pytest.fixture
def models(made: Path, tmp_path: Path) -> Path:
    """Copies that a test may damage."""
    return shutil.copytree(made, tmp_path / "models")


def _configure(model: Path, file: str = "config.json", **fields: object) -> None:
    path = model / file
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def _weights(model: Path) -> str:
    return digest_of(model / "model.safetensors").sha256


def test_a_download_that_was_cut_off_is_not_taken_for_part_of_another(
    run: Run, models: Path, tmp_path: Path
) -> None:
    left = tmp_path / "out.partial"
    shutil.copytree(models / "a", left)
    (left / "modeling_of_a.py").write_text("a = 1\n")
    assert run("download", models / "b", "out")[0] == 0
    assert _weights(tmp_path / "out") == _weights(models / "b")
    assert not (tmp_path / "out" / "modeling_of_a.py").exists()


def test_what_a_refused_merge_left_is_not_taken_for_part_of_a_download(
    run: Run, models: Path, tmp_path: Path
) -> None:
    weights = load_file(models / "base" / "model.safetensors")
    weights["model.norm.weight"][3] = float("nan")
    save_file(weights, models / "base" / "model.safetensors", {"format": "pt"})
    assert run("merge", models / "base", models / "delta", "out")[0] == 1
    assert run("download", models / "b", "out")[0] == 0
    assert _weights(tmp_path / "out") == _weights(models / "b")
    assert {p.name for p in (tmp_path / "out").iterdir()} == {
        p.name for p in (models / "b").iterdir()
    }


@pytest.mark.parametrize("stranger", ["tokenizer.json", "added_tokens.json", "modeling_llama.py"])
def test_a_merge_adopts_nothing_that_lay_there_before(
    run: Run, models: Path, tmp_path: Path, stranger: str
) -> None:
    (tmp_path / "out.partial").mkdir()
    (tmp_path / "out.partial" / stranger).write_text("{}")
    assert run("merge", models / "base", models / "delta", "out")[0] == 0
    there, of_delta = tmp_path / "out" / stranger, models / "delta" / stranger
    assert there.exists() == of_delta.exists()
    assert not there.exists() or there.read_bytes() == of_delta.read_bytes()


Damage = Callable[[Path], object]
DAMAGES: dict[str, tuple[Damage, str]] = {
    "pointer": (lambda m: (m / "model.safetensors").write_bytes(POINTER), "Git LFS pointer"),
    "tokenizer's pointer": (lambda m: (m / "tokenizer.json").write_bytes(POINTER), "Git LFS"),
    "half a file": (lambda m: os.truncate(m / "model.safetensors", 20_000), "truncated"),
    "empty file": (lambda m: os.truncate(m / "model.safetensors", 0), "empty"),
    "vocabulary": (lambda m: _configure(m, vocab_size=300), "embed_tokens"),
    "key heads": (lambda m: _configure(m, num_key_value_heads=4), "k_proj"),
    "layers": (lambda m: _configure(m, num_hidden_layers=2), "layers.2"),
}
COMMANDS = {
    "download": ("download", "{a}", "out"),
    "merge": ("merge", "{a}", "{delta}", "out"),
    "edit": ("edit", "{a}", "out", "--activation", "gelu"),
    "publish": ("publish", "{a}", "file://{place}"),
    "inspect": ("inspect", "{a}"),
    "evaluate": ("evaluate", "{a}", "--device", "cpu"),
    "deploy": ("deploy", "{a}", "--device", "cpu"),
}


@pytest.mark.parametrize(("damage", "words"), DAMAGES.values(), ids=DAMAGES.keys())
@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS.keys())
def test_every_command_says_what_is_wrong_with_a_model_before_it_begins(
    run: Run,
    models: Path,
    tmp_path: Path,
    *,
    command: tuple[str, ...],
    damage: Damage,
    words: str,
) -> None:
    damage(models / "a")
    places = {"a": models / "a", "delta": models / "delta", "place": tmp_path / "place"}
    code, out, err = run(*(word.format(**places) for word in command))
    assert code == 1
    assert words in out + err
    assert "Traceback" not in out + err
    left = {path.name for path in tmp_path.iterdir()} - {"models", "home"}
    assert left == set()


MISTAKES: dict[str, tuple[Damage, str]] = {
    "activation": (lambda m: _configure(m, hidden_act="gleu"), "gleu"),
    "rope": (lambda m: _configure(m, rope_scaling={"type": "odd", "factor": 2.0}), "odd"),
    "half a rope": (lambda m: _configure(m, rope_scaling={"rope_type": "linear"}), "config.json"),
    "rope is a word": (lambda m: _configure(m, rope_scaling="linear"), "config.json"),
    "padding": (lambda m: _configure(m, pad_token_id=320), "config.json"),
    "a comma": (lambda m: (m / "tokenizer_config.json").write_text('{"a": 1,}'), "comma"),
    "a mark": (
        lambda m: (m / "tokenizer_config.json").write_text("{}", encoding="utf-8-sig"),
        "byte order mark",
    ),
}


@pytest.mark.parametrize(("mistake", "words"), MISTAKES.values(), ids=MISTAKES.keys())
@pytest.mark.parametrize("command", [("inspect", "{}"), ("edit", "{}", "out", "--layers", "0")])
def test_a_value_that_the_libraries_do_not_take_is_told_in_their_words(
    run: Run,
    models: Path,
    tmp_path: Path,
    *,
    command: tuple[str, ...],
    mistake: Damage,
    words: str,
) -> None:
    mistake(models / "a")
    named = [word.format(models / "a") for word in command]
    code, out, err = run(*named, *(["--activation", "gelu"] if command[0] == "edit" else []))
    assert code == 1
    assert words in out + err
    assert "Traceback" not in out + err
    assert "report this" not in out + err
    assert not list(tmp_path.glob("out*"))


def test_an_edit_that_no_logit_shows_is_done_and_its_figures_say_so(
    run: Run, models: Path, caplog: pytest.LogCaptureFixture
) -> None:
    weights = load_file(models / "a" / "model.safetensors")
    small = {name: w * 1e-4 if "proj" in name else w for name, w in weights.items()}
    save_file(small, models / "a" / "model.safetensors", {"format": "pt"})
    code, out, _ = run("edit", models / "a", "out", "--activation", "gelu", "--json")
    assert code == 0
    proof = json.loads(out)["proof"]
    assert proof["difference"] == 0 < proof["probe_difference"]
    assert "where gelu and silu are at most" in proof["warnings"][0]
    assert proof["warnings"][0] in caplog.text
    assert run("inspect", "out")[0] == 0


def test_an_output_below_a_file_is_wrong_usage(run: Run, models: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    code, _, err = run("download", models / "a", "file/out")
    assert code == 2
    assert "cannot be created" in err


@pytest.mark.parametrize(
    "command",
    [
        ("inspect", "{}"),
        ("download", "{}", "out"),
        ("edit", "{}", "out", "--activation", "gelu"),
        ("merge", "{}", "{}", "out"),
        ("fuse", "{}", "{}", "out"),
        ("evaluate", "{}", "--device", "cpu"),
        ("deploy", "{}", "--device", "cpu"),
        ("publish", "{}", "file:///nowhere"),
    ],
    ids=lambda words: words[0],
)
@pytest.mark.parametrize("place", ["adapter", "tuned"])
def test_an_adapter_given_as_the_model_is_called_one(
    run: Run, tmp_path: Path, command: tuple[str, ...], place: str
) -> None:
    (tmp_path / "tuned" / "adapter").mkdir(parents=True)
    (tmp_path / "tuned" / "adapter" / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    given = tmp_path / "tuned" / ("adapter" if place == "adapter" else "")
    code, out, err = run(*(word.format(given) for word in command))
    assert code == 1
    assert "LoRA adapter" in out + err
    assert "kawan-usaha fuse MODEL ADAPTER OUT" in out + err
    assert "Traceback" not in out + err


def test_an_adapter_that_is_a_file_is_told(run: Run, models: Path, tmp_path: Path) -> None:
    (tmp_path / "adapter.safetensors").touch()
    code, _, err = run("fuse", models / "a", "adapter.safetensors", "out")
    assert code == 1
    assert "is a file" in err
    assert not list(tmp_path.glob("out*"))


@pytest.fixture
def with_adapter(models: Path) -> Path:
    """A model with a true adapter in its own directory."""
    model = models / "a"
    peft = get_peft_model(
        AutoModelForCausalLM.from_pretrained(model),
        LoraConfig(r=4, target_modules=["q_proj"], init_lora_weights=False),
    )
    peft.peft_config["default"].init_lora_weights = True
    peft.save_pretrained(model)
    return model


@pytest.mark.parametrize("command", [("download", "{}", "out"), ("fuse", "{}", "{}", "out")])
def test_an_adapter_inside_the_model_never_goes_half_with_it(
    run: Run, with_adapter: Path, tmp_path: Path, command: tuple[str, ...]
) -> None:
    code, out, _ = run(*(word.format(with_adapter) for word in command))
    assert code == 0
    assert ("left behind: adapter_config.json, adapter_model.safetensors" in out) == (
        command[0] == "download"
    )
    assert not list((tmp_path / "out").glob("adapter*"))
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "out").state_dict()
    before = load_file(with_adapter / "model.safetensors")
    name = "model.layers.0.self_attn.q_proj.weight"
    assert torch.equal(loaded[name], before[name]) == (command[0] == "download")


def test_fingerprint_of_an_edited_model_is_downloaded_with_it_and_taken_anew_when_it_is_fused(
    run: Run, with_adapter: Path, models: Path, tmp_path: Path
) -> None:
    assert run("edit", models / "b", "edited", "--activation", "gelu")[0] == 0
    assert run("download", "edited", "copy")[0] == 0
    code, out, _ = run("fuse", "edited", with_adapter, "fused", "--json")
    assert code == 0
    edited, copied, fused = (read_fingerprint(tmp_path / n) for n in ("edited", "copy", "fused"))
    assert edited is not None
    assert copied == edited
    assert fused is not None
    assert fused.edited != edited.edited
    assert FINGERPRINT_FILE in json.loads(out)["files"]


@pytest.mark.slow
def test_a_model_with_an_adapter_inside_is_edited_without_it(
    run: Run, with_adapter: Path, tmp_path: Path
) -> None:
    code, out, _ = run("edit", with_adapter, "out", "--activation", "gelu")
    assert code == 0
    assert "left behind: adapter_config.json" in out
    assert not list((tmp_path / "out").glob("adapter*"))


@pytest.mark.parametrize("command", [("evaluate", "{}", "--device", "cpu"), ("inspect", "{}")])
def test_a_directory_that_loads_as_model_and_adapter_is_refused_where_it_would_be_loaded(
    run: Run, with_adapter: Path, command: tuple[str, ...]
) -> None:
    code, out, err = run(*(word.format(with_adapter) for word in command))
    assert code == 1
    assert "a model and an adapter" in out + err


@pytest.mark.parametrize("label", [["LLaMAForCausalLM"], None, []])
def test_a_label_that_decides_nothing_stops_no_publishing(
    run: Run, models: Path, tmp_path: Path, label: object
) -> None:
    _configure(models / "a", architectures=label)
    assert run("publish", models / "a", f"file://{tmp_path}/place")[0] == 0


def test_a_type_that_transformers_does_not_know_is_refused_before_anything_is_sent(
    run: Run, models: Path, tmp_path: Path
) -> None:
    _configure(models / "a", model_type="LLaMA")
    code, _, err = run("publish", models / "a", f"file://{tmp_path}/place")
    assert code == 1
    assert "no causal language model of this type" in err
    assert not (tmp_path / "place").exists()
