"""A tokenizer that makes one letter longer than all memory is refused before it is loaded."""

import base64
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tasks.core.conversation.tokenizer.growth import require_bounded_growth
from tasks.core.conversation.tokenizer.load import load_tokenizer
from tasks.core.errors import NotAModel
from tasks.core.evaluation.figures import EvaluationJob, Subject
from tasks.core.evaluation.vocabulary import encoder_of
from tasks.core.recipe import Evaluate
from tests.models import tiny_llama


def replaced(pattern: dict[str, str], content: str) -> dict[str, Any]:
    return {"type": "Replace", "pattern": pattern, "content": content}


def in_a_row(part: str, steps: list[dict[str, Any]]) -> dict[str, Any]:
    """Return a sequence, which names its steps otherwise in each part."""
    names = {"normalizer": "normalizers", "pre_tokenizer": "pretokenizers", "decoder": "decoders"}
    return {"type": "Sequence", names[part]: steps}


def charsmap(*texts: str) -> str:
    """Return a map of sentencepiece's with an empty trie that may put one of these somewhere."""
    ended = b"".join(text.encode() + b"\0" for text in texts)
    return base64.b64encode((1024).to_bytes(4, "little") + bytes(1024) + ended).decode()


DOUBLED = replaced({"String": "a"}, "aa")
BYTES = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
SPACES = {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "always", "split": True}
MAPPED = {"type": "Precompiled", "precompiled_charsmap": charsmap("b", "aa")}
LIGATURE = "\ufdfa"  # three bytes, which NFKD makes thirty-three
BOMBS: dict[str, tuple[str, list[dict[str, Any]]]] = {
    "doubled again and again": ("normalizer", [DOUBLED] * 40),
    "doubled in the decoder": ("decoder", [DOUBLED] * 40),
    "doubled without a type": (
        "normalizer",
        [{"pattern": {"String": "a"}, "content": "aa"}] * 40,
    ),
    "in sequences of sequences": (
        "normalizer",
        [{"type": "Sequence", "normalizers": [DOUBLED] * 20}] * 2,
    ),
    "at once": ("normalizer", [replaced({"String": "a"}, "a" * 5000)]),
    "between all letters": ("normalizer", [replaced({"Regex": ""}, "ab")] * 10),
    "bytes of bytes": ("normalizer", [{"type": "ByteLevel"}] * 40),
    "bytes of bytes of each word": ("pre_tokenizer", [BYTES] * 40),
    "bytes of bytes of an answer": ("decoder", [BYTES] * 40),
    "by a map": ("normalizer", [MAPPED] * 40),
    "by a map to a long text": (
        "normalizer",
        [{"precompiled_charsmap": charsmap("a" * 5000)}],
    ),
    "taken apart and put together": (
        "normalizer",
        [replaced({"String": "\u0644"}, LIGATURE), {"type": "NFKD"}] * 10,
    ),
    "spaces for spaces": ("pre_tokenizer", [SPACES, SPACES | {"replacement": "x"}] * 20),
    "a space between all letters": ("decoder", [{"type": "BPEDecoder", "suffix": ""}] * 40),
    "something before it, often": (
        "normalizer",
        [{"type": "Prepend", "prepend": "aaa"}, DOUBLED] * 8,
    ),
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_llama(tmp_path_factory.mktemp("model"), layers=1)


def with_part(model: Path, name: str, part: dict[str, Any]) -> Path:
    path = model / "tokenizer.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {name: part}))
    return model


@pytest.mark.parametrize("name", BOMBS)
def test_a_tokenizer_that_lengthens_without_bounds_is_refused(
    name: str, model: Path, tmp_path: Path
) -> None:
    part, steps = BOMBS[name]
    copy = shutil.copytree(model, tmp_path / "model")
    with pytest.raises(NotAModel, match="without limit"):
        load_tokenizer(with_part(copy, part, in_a_row(part, steps)))


def test_what_lengthens_a_little_in_each_part_is_refused_for_all_of_them(tmp_path: Path) -> None:
    model = tiny_llama(tmp_path, layers=1)
    for part in ("normalizer", "pre_tokenizer", "decoder"):
        with_part(model, part, in_a_row(part, [BYTES] * 5))
    with pytest.raises(NotAModel, match="without limit"):
        load_tokenizer(model)


def test_a_model_that_is_only_measured_is_looked_at_too(tmp_path: Path) -> None:
    model = with_part(
        tiny_llama(tmp_path, layers=1), "normalizer", DOUBLED | {"content": "a" * 5000}
    )
    subject = Subject(role="base", path=model)
    job = EvaluationJob(
        subjects=(subject,), template="vicuna_v1.1", settings=Evaluate(), scratch=tmp_path
    )
    with pytest.raises(NotAModel, match="without limit"):
        encoder_of(subject, job)


NMT_NFKC = {"type": "Precompiled", "precompiled_charsmap": charsmap("a", "\u0635" * 16 + " ")}
"""As long as sentencepiece's own map, whose longest text has 33 bytes."""
ONE_SPACE = replaced({"Regex": " {2,}"}, " ")
ORDINARY: dict[str, dict[str, list[dict[str, Any]]]] = {
    "LLaMA": {
        "normalizer": [
            {"type": "Prepend", "prepend": "\u2581"},
            replaced({"String": " "}, "\u2581"),
        ],
        "decoder": [
            replaced({"String": "\u2581"}, " "),
            {"type": "ByteFallback"},
            {"type": "Fuse"},
            {"type": "Strip", "content": " ", "start": 1, "stop": 0},
        ],
    },
    "GPT-2": {"pre_tokenizer": [BYTES], "decoder": [BYTES]},
    "SmolLM2": {
        "pre_tokenizer": [{"type": "Digits", "individual_digits": True}, BYTES],
        "decoder": [BYTES],
    },
    "Qwen": {"normalizer": [{"type": "NFC"}], "pre_tokenizer": [BYTES], "decoder": [BYTES]},
    "T5": {
        "normalizer": [NMT_NFKC],
        "pre_tokenizer": [{"type": "WhitespaceSplit"}, SPACES],
        "decoder": [SPACES],
    },
    "ALBERT": {
        "normalizer": [
            replaced({"String": "``"}, '"'),
            replaced({"String": "''"}, '"'),
            {"type": "NFKD"},
            {"type": "StripAccents"},
            {"type": "Lowercase"},
            NMT_NFKC,
            ONE_SPACE,
        ],
        "pre_tokenizer": [{"type": "WhitespaceSplit"}, SPACES],
        "decoder": [SPACES],
    },
}


@pytest.mark.parametrize("name", ORDINARY)
def test_a_tokenizer_as_models_have_it_passes(name: str, model: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(model, tmp_path / "model")
    for part, steps in ORDINARY[name].items():
        with_part(copy, part, in_a_row(part, steps))
    require_bounded_growth(copy)


def test_replacements_as_models_have_them_are_loaded(tmp_path: Path) -> None:
    model = tiny_llama(tmp_path, layers=1)
    spaces = replaced({"String": " "}, "\u2581")
    steps = [{"type": "Prepend", "prepend": "\u2581"}, spaces, ONE_SPACE]
    with_part(model, "normalizer", {"type": "Sequence", "normalizers": steps})
    assert load_tokenizer(model)("a b").input_ids
