"""What is published of a model directory: what belongs to the model, and no secret."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from tasks.core.errors import HubError, NotAModel, SecretFound
from tasks.core.files.digests import digest_of
from tasks.core.hub.publish.allow_list import (
    choose_to_publish,
    files_below,
    require_harmless,
    why_left_out,
)
from tasks.core.hub.publish.publication import Publication
from tasks.core.hub.publish.secrets import looks_like_a_secret, require_no_secret
from tasks.core.hub.publish.to_filesystem import publish_to_filesystem
from tasks.core.recipe import Publish
from tasks.core.storage.directory import StorageDirectory
from tests.unit.hub.publish.world import Build, PublishHub

TOKEN = "hf_" + "A1b2" * 8


@pytest.fixture
def model(edited: Build, tmp_path: Path) -> Path:
    return shutil.copytree(edited.model, tmp_path / "model")


def chosen(model: Path, card: str = "") -> set[str]:
    return set(choose_to_publish(model, files_below(model), card))


def put(model: Path, *names: str, text: str = "x") -> None:
    for name in names:
        (model / name).parent.mkdir(parents=True, exist_ok=True)
        (model / name).write_text(text)


# --- secrets ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        *("hf_token.txt", "wandb_secret.json", "token", "tokens.json", "my-api-key.txt"),
        *("API_KEY", "credentials.json", "passwords.txt", "server.pem", "id_rsa", ".env"),
        *("keys/private_key.json", ".netrc", "aws.secrets"),
    ],
)
def test_a_file_with_the_name_of_a_secret_stays_here_and_is_told(model: Path, name: str) -> None:
    put(model, name)
    assert name not in chosen(model)
    assert why_left_out(name) == "its name looks like that of a secret"


@pytest.mark.parametrize(
    "name",
    ["tokenizer.json", "tokenizer_config.json", "tokenizer.model", "tokenization_kawan.py"],
)
def test_the_files_of_a_tokenizer_do_not_look_like_secrets(name: str) -> None:
    assert not looks_like_a_secret(name)


@pytest.mark.parametrize(
    ("secret", "kind"),
    [
        (TOKEN, "Hugging Face"),
        ("AKIA" + "ABCDEFGH12345678", "AWS"),
        ("sk-proj-" + "a1B2" * 8, "sk-"),
        ("sk-" + "a1B2" * 12, "sk-"),
        ("ghp_" + "a1B2" * 9, "GitHub"),
        ("glpat-" + "a1B2" * 5, "GitLab"),
        ("xoxb-1234567890-abc", "Slack"),
        ("AIza" + "a1B2c" * 7, "Google"),
        ("-----BEGIN RSA PRIVATE KEY-----", "private key"),
        ("-----BEGIN PRIVATE KEY-----", "private key"),
    ],
)
def test_a_secret_inside_a_file_that_would_be_sent_is_refused(
    model: Path, secret: str, kind: str
) -> None:
    put(model, "LICENSE", text=f"Copyright Warung\n\nkey = '{secret}'\n")
    with pytest.raises(SecretFound, match=f"(?s)LICENSE, line 3.*{kind}") as told:
        chosen(model)
    assert secret not in str(told.value)


def test_a_secret_in_a_configuration_is_refused(model: Path) -> None:
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**config, "use_auth_token": TOKEN}))
    with pytest.raises(SecretFound, match="Hugging Face"):
        chosen(model)


def test_a_secret_in_the_models_code_is_refused(model: Path) -> None:
    code = model / "modeling_tiny_edited.py"
    code.write_text(f"{code.read_text()}\nTOKEN = '{TOKEN}'\n")
    with pytest.raises(SecretFound, match=r"modeling_tiny_edited\.py"):
        chosen(model)


def test_a_secret_in_a_file_that_is_not_sent_is_no_obstacle(model: Path) -> None:
    put(model, "notes.txt", text=TOKEN)
    assert "notes.txt" not in chosen(model)


def test_a_licence_with_the_name_of_a_secret_is_refused(model: Path) -> None:
    put(model, "LICENSE-api-key.txt")
    with pytest.raises(SecretFound, match="name of a secret"):
        chosen(model)


@pytest.mark.parametrize(
    "word", ["task-oriented-dialogue-systems-2", "hf_short", "AKIAhari", "sk-"]
)
def test_words_that_begin_like_a_secret_are_none(word: str) -> None:
    require_no_secret(f"a {word} b".encode(), where="here")


def test_a_secret_in_the_card_is_refused(hub: PublishHub, edited: Build) -> None:
    card = edited.card.replace("A test.", f"Ask with {TOKEN}.")
    target = Publish(target="memory://secret-card")
    with pytest.raises(SecretFound, match=r"README\.md"):
        publish_to_filesystem(Publication(edited.model, edited.files, card, "x"), target)


# --- what belongs to a model -----------------------------------------------------------------


def test_all_that_a_model_is_loaded_with_is_published(model: Path, edited: Build) -> None:
    beside = (
        *("LICENSE", "NOTICE.md", "USE_POLICY.md", "LICENCE-models.txt", "chat_template.jinja"),
        *("generation_config.json", "additional_chat_templates/tool.jinja", "qwen.tiktoken"),
    )
    put(model, *beside)
    assert chosen(model) == {*edited.files, *beside}


def test_code_is_published_with_what_it_imports_and_no_other(model: Path) -> None:
    code = model / "modeling_tiny_edited.py"
    code.write_text(f"from .layers import mlp\nfrom . import rope\n{code.read_text()}")
    put(model, "layers/__init__.py", text="from .mlp import MLP\nfrom ..shared import x\n")
    put(model, "layers/mlp.py", "rope.py", "shared.py", "train.py", "layers/unused.py")
    code_files = {name for name in chosen(model) if name.endswith(".py")}
    assert code_files == {
        *("modeling_tiny_edited.py", "rope.py", "shared.py"),
        *("layers/__init__.py", "layers/mlp.py"),
    }
    assert "no configuration names" in why_left_out("train.py")


def test_code_that_the_tokenizer_names_is_published(model: Path) -> None:
    document = json.loads((model / "tokenizer_config.json").read_text())
    document["auto_map"] = {"AutoTokenizer": ["tokenization_kawan.Kawan", None]}
    (model / "tokenizer_config.json").write_text(json.dumps(document))
    put(model, "tokenization_kawan.py")
    assert "tokenization_kawan.py" in chosen(model)


def test_pictures_are_published_that_the_card_shows(model: Path) -> None:
    put(model, "curve.png", "docs/logo.svg", "cat.png", "notes.txt")
    card = '![loss](./curve.png) <img width=3 src="docs/logo.svg"> ![a](notes.txt)'
    pictures = {"curve.png", "docs/logo.svg"}
    assert chosen(model, card) - chosen(model) == pictures


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("README.md", "card takes its place"),
        ("manifest.json", "local store"),
        ("model-q4.gguf", "one format"),
        ("pytorch_model.bin", "one format"),
        ("optimizer.pt", "one format"),
        ("adapter_config.json", "second time"),
        ("notes.txt", "no model is loaded"),
        ("customers.json", "no model is loaded"),
    ],
)
def test_everything_else_is_left_out_with_a_reason(model: Path, name: str, why: str) -> None:
    put(model, name)
    assert name not in chosen(model)
    assert why in why_left_out(name)


def test_caches_and_histories_are_not_even_looked_at(model: Path) -> None:
    put(model, ".git/config", ".cache/huggingface/x", "__pycache__/a.pyc", ".env")
    assert {".env"} == {name for name in files_below(model) if name.startswith((".", "__"))}


def test_without_weights_there_is_no_model_to_publish(model: Path) -> None:
    (model / "model.safetensors").unlink()
    with pytest.raises(NotAModel, match="no weights"):
        chosen(model)


@pytest.mark.parametrize(
    ("file", "kind", "reference"),
    [
        ("config.json", "AutoModelForCausalLM", "modeling_gone.Model"),
        ("config.json", "AutoConfig", "warung/other--configuration_other.Config"),
        ("tokenizer_config.json", "AutoTokenizer", ["tokenization_gone.Slow", None]),
    ],
)
def test_code_that_is_not_in_the_directory_is_told_before_anything_is_sent(
    model: Path, file: str, kind: str, reference: object
) -> None:
    document = json.loads((model / file).read_text())
    document["auto_map"] = {**document.get("auto_map", {}), kind: reference}
    (model / file).write_text(json.dumps(document))
    with pytest.raises(NotAModel, match=f"(?s)would not load.*{kind}"):
        chosen(model)


def test_code_that_no_causal_model_is_loaded_with_may_be_missing(model: Path) -> None:
    document = json.loads((model / "config.json").read_text())
    document["auto_map"]["AutoModelForSequenceClassification"] = "modeling_gone.Judge"
    (model / "config.json").write_text(json.dumps(document))
    assert "modeling_tiny_edited.py" in chosen(model)


def test_a_model_without_a_tokenizer_is_refused_before_anything_is_sent(
    plain: Build, tmp_path: Path
) -> None:
    model = shutil.copytree(plain.model, tmp_path / "model")
    for name in ("tokenizer.json", "tokenizer.model"):
        (model / name).unlink(missing_ok=True)
    with pytest.raises(NotAModel, match="no tokenizer"):
        chosen(model)
    put(model, "spiece.model")
    assert "spiece.model" in chosen(model)


# --- the same for a Hub and for a directory --------------------------------------------------


@pytest.fixture
def untidy(edited: Build, model: Path) -> Build:
    """A build whose manifest lists more than belongs to the model."""
    put(model, "hf_token.txt", "wandb_secret.json", "train.log", text=TOKEN)
    names = [path.name for path in model.iterdir()]
    return replace(edited, model=model, files={name: digest_of(model / name) for name in names})


LEFT_OUT = {"hf_token.txt", "wandb_secret.json", "train.log"}


@pytest.mark.usefixtures("unproven")
def test_the_hub_gets_the_model_and_the_receipt_says_what_it_does_not_get(
    hub: PublishHub, untidy: Build, edited: Build
) -> None:
    receipt = untidy.publish()
    assert hub.files().keys() == {*edited.files, "README.md"}
    assert receipt.left_out.keys() == LEFT_OUT
    assert "left out: train.log (no model is loaded from such a file)" in receipt.remarks()


def test_a_directory_gets_the_model_and_the_receipt_says_what_it_does_not_get(
    untidy: Build, edited: Build, tmp_path: Path
) -> None:
    target = Publish(target=str(tmp_path / "place"))
    receipt = publish_to_filesystem(
        Publication(untidy.model, untidy.files, untidy.card, "x"), target
    )
    present = StorageDirectory.open(str(tmp_path / "place")).files("builds/x").keys()
    assert present == {*edited.files, "README.md", "manifest.json"}
    assert receipt.left_out.keys() == LEFT_OUT


# --- files of somebody else beside the model -------------------------------------------------


@pytest.mark.parametrize(
    ("published", "loaded"),
    [
        ("model.safetensors.index.json", "model.safetensors"),
        ("pytorch_model.bin", "model.safetensors.index.json"),
        ("model.safetensors", "adapter_config.json"),
        ("model.safetensors", "generation_config.json"),
        ("model.safetensors", "additional_chat_templates/tool.jinja"),
    ],
)
def test_a_file_that_would_be_loaded_with_the_model_may_not_stay(
    published: str, loaded: str
) -> None:
    with pytest.raises(HubError, match=loaded):
        require_harmless(["docs.md", loaded], [published], where="main", remedy="so")


@pytest.mark.parametrize(
    "name", ["model-q4.gguf", "docs/notes.md", "pytorch_model.bin", "model.safetensors.index.json"]
)
def test_a_file_that_no_loader_would_take_may_stay(name: str) -> None:
    require_harmless([name], ["model.safetensors"], where="main", remedy="so")
