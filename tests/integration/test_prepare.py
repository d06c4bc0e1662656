import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from prefect import flow

from tasks.core.conversation.examples.file import ExampleFile
from tasks.core.conversation.prepared import EXAMPLES, prepare_examples, read_prepared
from tasks.core.files.digests import sha256_of
from tasks.core.recipe import Finetune
from tasks.prepare import VERSION, prepare
from tasks.stage_result import StageResult
from tests.models import tiny_llama, tiny_tokenizer

pytestmark = pytest.mark.usefixtures("prefect", "home")
TEMPLATE = "vicuna_v1.1"
STARTER = Path(__file__).parents[2] / "data" / "conversation.json"


def as_stage(path: Path) -> StageResult:
    return StageResult(
        stage="base",
        artifact=path.name,
        digest=path.name,
        path=path,
        cached=False,
        wall_s=0.0,
        size_bytes=0,
        peak_memory_bytes=0,
    )


def test_examples_are_made_once_for_all_that_agree_on_them(tmp_path: Path) -> None:
    data = tmp_path / "conversation.json"
    data.write_text(json.dumps(json.loads(STARTER.read_text())[:20]))
    one = as_stage(tiny_llama(tmp_path / "one", layers=1, seed=1))
    other = as_stage(tiny_llama(tmp_path / "other", layers=2, seed=2))  # the same tokenizer
    settings = Finetune(data=data, max_length_tokens=4096)
    faster = settings.model_copy(update={"learning_rate": 1e-3, "batching": "pack"})
    shorter = settings.model_copy(update={"max_length_tokens": 1500, "max_dropped_share": 0.9})

    @flow
    def thrice() -> tuple[StageResult, StageResult, StageResult]:
        first = prepare.submit(one, settings, TEMPLATE).result()
        again = prepare.submit(other, faster, TEMPLATE).result()
        return first, again, prepare.submit(one, shorter, TEMPLATE).result()

    first, again, third = thrice()
    assert (first.cached, again.cached, third.cached) == (False, True, False)
    assert first.digest == again.digest != third.digest
    prepared = read_prepared(first.path, faster, TEMPLATE)
    assert len(ExampleFile(prepared.examples)) == first.facts["examples"] == 20


def test_other_rules_have_another_version(tmp_path: Path) -> None:
    """A change here makes other examples of the same data: raise VERSION with it."""
    model, data, out = tmp_path / "model", tmp_path / "conversation.json", tmp_path / "out"
    tiny_tokenizer().save_pretrained(model)
    out.mkdir()
    data.write_text(json.dumps(list(_records())))
    settings = Finetune(max_length_tokens=600, max_dropped_share=0.95, language="id")
    made = prepare_examples(model, data, settings, TEMPLATE, out=out)
    assert made.counts.examples == 2
    assert (VERSION, sha256_of(out / EXAMPLES)[:12]) == (4, "132ea1ea9e8f")


def _records() -> Iterator[dict[str, object]]:
    """Yield two good conversations, one of them with a system message, and one for each rule."""
    question, answer = "Berapa harga laptop bekas ini di kota kami?", "Sekitar dua juta rupiah, Bu."
    english = "This laptop costs about two million rupiah where we live, and it works very well."
    turns = [("human", question), ("gpt", answer)]
    kinds: dict[str, list[tuple[str, str]]] = {
        "good": turns,
        "good with system": [("system", "Jawablah singkat."), ("human", "Halo?"), ("gpt", "Halo.")],
        "duplicate": turns,
        "near duplicate": [("human", question.upper()), ("gpt", answer)],
        "personal data": [("human", "Surat saya ke siti@contoh.id?"), ("gpt", "Sudah sampai.")],
        "of the system": [
            ("system", "Nama saya siti@contoh.id."),
            ("human", "Ya?"),
            ("gpt", "Ya."),
        ],
        "mark": [("human", "Apa arti </s> itu?"), ("gpt", "Tanda akhir.")],
        "mark of the system": [
            ("system", "Akhiri dengan </s>."),
            ("human", "Ada?"),
            ("gpt", "Ada."),
        ],
        "other language": [("human", english), ("gpt", english[::-1] + english)],
        "too long": [("human", "kata " * 200), ("gpt", "Panjang.")],
        "wrong order": [("gpt", "Halo."), ("human", "Halo?")],
        "empty turn": [("human", " "), ("gpt", "Halo.")],
        "no answer": [("human", "Halo?")],
    }
    for name, said in kinds.items():
        yield {"id": name, "conversations": [{"from": who, "value": what} for who, what in said]}
    fields = [{"from": who, "value": what} for who, what in [("human", "Apa?"), ("gpt", "Itu.")]]
    yield {"id": "field", "system": "Jawablah.", "conversations": fields}
