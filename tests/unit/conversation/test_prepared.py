import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from tasks.core.conversation.examples.file import ExampleFile
from tasks.core.conversation.examples.labels import Encoder, Example
from tasks.core.conversation.examples.split import is_validation
from tasks.core.conversation.prepared import (
    DESCRIPTION,
    prepare_examples,
    read_prepared,
)
from tasks.core.conversation.reading import chunks, parallel
from tasks.core.conversation.reading.data_files import DataFile
from tasks.core.conversation.records import Conversation
from tasks.core.errors import DataError, NotAModel
from tasks.core.files.digests import sha256_of
from tasks.core.recipe import Finetune
from tests.conversations import load_conversations
from tests.models import tiny_tokenizer

STARTER = Path(__file__).parents[3] / "data" / "conversation.json"
SETTINGS = Finetune(validation_share=0.2, max_length_tokens=4096)
TEMPLATE = "vicuna_v1.1"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model"
    tiny_tokenizer().save_pretrained(path)
    return path


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "conversation.json"
    path.write_text(json.dumps(json.loads(STARTER.read_text())[:40]))
    return path


@pytest.fixture
def out(tmp_path: Path) -> Path:
    path = tmp_path / "out"
    path.mkdir()
    return path


def ids(path: Path) -> list[list[int]]:
    examples = ExampleFile(path)
    return [examples[i]["input_ids"].tolist() for i in range(len(examples))]


def test_a_model_without_a_tokenizer_is_refused(tmp_path: Path, data: Path, out: Path) -> None:
    with pytest.raises(NotAModel):
        prepare_examples(tmp_path / "none", data, SETTINGS, TEMPLATE, out=out)
    assert list(out.iterdir()) == []


def test_a_file_of_bad_records_leaves_nothing_behind(model: Path, data: Path, out: Path) -> None:
    data.write_text(json.dumps([*json.loads(data.read_text()), {"id": "kosong"}]))
    with pytest.raises(DataError, match=r"1 of 41[\s\S]*record 41 \(kosong\)"):
        prepare_examples(model, data, SETTINGS, TEMPLATE, out=out)
    assert list(out.iterdir()) == []


def test_each_side_holds_the_conversations_whose_words_decide_so(
    model: Path, data: Path, out: Path
) -> None:
    prepared = prepare_examples(model, data, SETTINGS, TEMPLATE, out=out)
    encoder = Encoder(tiny_tokenizer(), TEMPLATE, SETTINGS.max_length_tokens)
    sides: dict[bool, list[list[int]]] = {True: [], False: []}
    for conversation in load_conversations(data):
        sides[is_validation(conversation, 0.2)].append(encoder.encode(conversation).input_ids)
    assert prepared.validation is not None
    assert ids(prepared.examples) == sides[False]
    assert ids(prepared.validation) == sides[True]
    assert prepared.counts.examples == len(sides[False])


def test_what_is_dropped_is_not_learned(model: Path, data: Path, out: Path) -> None:
    records = json.loads(data.read_text())
    data.write_text(json.dumps([*records, records[0]]))
    settings = Finetune(max_dropped_share=0.05, max_length_tokens=4096)
    prepared = prepare_examples(model, data, settings, TEMPLATE, out=out)
    assert (prepared.counts.examples, prepared.validation) == (40, None)


def test_a_validation_share_that_takes_all_is_named_as_the_cause(
    model: Path, data: Path, out: Path
) -> None:
    data.write_text(json.dumps(json.loads(data.read_text())[:3]))
    settings = Finetune(validation_share=0.999, max_length_tokens=4096)
    with pytest.raises(DataError, match=r"kept for validation[\s\S]*0\.999") as caught:
        prepare_examples(model, data, settings, TEMPLATE, out=out)
    assert "max_length_tokens" not in str(caught.value)
    assert "Lower finetune.validation_share" in str(caught.value.next_step)


def test_prepared_examples_are_found_again(model: Path, data: Path, out: Path) -> None:
    prepared = prepare_examples(model, data, SETTINGS, TEMPLATE, out=out)
    later = Finetune(validation_share=0.2, max_length_tokens=4096, learning_rate=1.0)
    assert read_prepared(out, later, TEMPLATE) == prepared


def test_examples_for_other_settings_are_refused(model: Path, data: Path, out: Path) -> None:
    prepare_examples(model, data, SETTINGS, TEMPLATE, out=out)
    with pytest.raises(DataError, match=r"max_length_tokens: 512[\s\S]*max_length_tokens: 4096"):
        read_prepared(out, Finetune(validation_share=0.2, max_length_tokens=512), TEMPLATE)
    with pytest.raises(DataError, match="template: qwen-7b-chat"):
        read_prepared(out, SETTINGS, "qwen-7b-chat")


def test_a_directory_that_was_not_finished_holds_none(model: Path, data: Path, out: Path) -> None:
    prepare_examples(model, data, SETTINGS, TEMPLATE, out=out)
    (out / DESCRIPTION).unlink()
    with pytest.raises(DataError, match="no prepared examples"):
        read_prepared(out, SETTINGS, TEMPLATE)


def test_adding_and_reordering_records_never_moves_another_one(
    model: Path, data: Path, out: Path, tmp_path: Path
) -> None:
    few = prepare_examples(model, data, SETTINGS, TEMPLATE, out=out)
    data.write_text(json.dumps(json.loads(STARTER.read_text())[::-1]))
    (tmp_path / "more").mkdir()
    more = prepare_examples(model, data, SETTINGS, TEMPLATE, out=tmp_path / "more")
    for before, after in ((few.examples, more.examples), (few.validation, more.validation)):
        assert before is not None and after is not None
        kept = ids(after)
        assert all(example in kept for example in ids(before))


def test_what_is_told_of_the_files_is_so(model: Path, data: Path, out: Path) -> None:
    prepared = prepare_examples(model, data, SETTINGS, TEMPLATE, out=out)
    assert prepared.validation is not None
    assert prepared.sha256 == sha256_of(prepared.examples)
    both = [*ids(prepared.examples), *ids(prepared.validation)]
    assert prepared.largest_id == max(map(max, both))


def test_examples_of_the_same_data_tokenizer_and_settings_are_not_made_again(
    model: Path, data: Path, out: Path
) -> None:
    first = prepare_examples(model, data, SETTINGS, TEMPLATE, out=out)
    made = first.examples.stat().st_ino
    faster = SETTINGS.model_copy(update={"learning_rate": 1.0})
    assert prepare_examples(model, data, faster, TEMPLATE, out=out) == first
    assert first.examples.stat().st_ino == made
    data.write_text(json.dumps(json.loads(data.read_text())[:30]))
    fewer = prepare_examples(model, data, SETTINGS, TEMPLATE, out=out)
    assert fewer.counts.examples < first.counts.examples
    longer = SETTINGS.model_copy(update={"validation_share": 0.0})
    assert prepare_examples(model, data, longer, TEMPLATE, out=out).validation is None
    first.examples.unlink()
    assert prepare_examples(model, data, longer, TEMPLATE, out=out).examples.exists()


def test_every_record_is_tokenized_once(
    model: Path, data: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenized: list[str] = []
    encode_all = Encoder.encode_all

    def watched(self: Encoder, some: Sequence[Conversation]) -> list[Example | DataError]:
        tokenized.extend(each.id for each in some)
        return encode_all(self, some)

    monkeypatch.setattr(Encoder, "encode_all", watched)
    prepare_examples(model, data, SETTINGS, TEMPLATE, out=out)
    assert sorted(tokenized) == sorted(each.id for each in load_conversations(data))


def test_several_processes_write_the_same_bytes_as_one(
    model: Path, data: Path, out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = json.loads(data.read_text())
    data.write_text(json.dumps([*records[:25], records[3], {"id": "kosong"}, *records[25:]]))
    settings = SETTINGS.model_copy(update={"max_dropped_share": 0.1})
    one = prepare_examples(model, data, settings, TEMPLATE, out=out)
    monkeypatch.setattr(chunks, "RECORD_CHUNK_BYTES", 8000)
    monkeypatch.setattr(parallel, "_ENOUGH_BYTES", 0)
    monkeypatch.setattr(parallel, "usable_cores", lambda: 2)
    (tmp_path / "two").mkdir()
    two = prepare_examples(model, data, settings, TEMPLATE, out=tmp_path / "two")
    assert one.validation is not None and two.validation is not None
    assert two.examples.read_bytes() == one.examples.read_bytes()
    assert two.validation.read_bytes() == one.validation.read_bytes()
    assert (two.counts, two.sha256) == (one.counts, one.sha256)


def test_a_source_is_learned_as_often_as_its_weight_says_and_validated_once(
    model: Path, data: Path, out: Path, tmp_path: Path
) -> None:
    records = json.loads(data.read_text())
    (tmp_path / "more.json").write_text(json.dumps(records[20:]))
    data.write_text(json.dumps(records[:20]))
    plain = [DataFile(data, "a"), DataFile(tmp_path / "more.json", "b")]
    heavy = [plain[0], replace(plain[1], weight=2.0)]
    once = prepare_examples(model, plain, SETTINGS, TEMPLATE, out=out)
    (tmp_path / "heavy").mkdir()
    twice = prepare_examples(model, heavy, SETTINGS, TEMPLATE, out=tmp_path / "heavy")
    assert once.validation is not None and twice.validation is not None
    assert ids(twice.validation) == ids(once.validation)
    learned, doubled = (Counter(map(tuple, ids(each.examples))) for each in (once, twice))
    assert learned.keys() == doubled.keys()
    assert doubled.total() - learned.total() == sum(count == 2 for count in doubled.values()) > 5
    assert twice.counts.examples == doubled.total()


def test_adding_records_moves_none_that_half_a_source_has_taken(
    model: Path, data: Path, out: Path, tmp_path: Path
) -> None:
    records = json.loads(data.read_text())
    data.write_text(json.dumps(records[10:]))
    few = prepare_examples(model, [DataFile(data, "a", weight=0.5)], SETTINGS, TEMPLATE, out=out)
    data.write_text(json.dumps(records))
    (tmp_path / "more").mkdir()
    half = [DataFile(data, "a", weight=0.5)]
    more = prepare_examples(model, half, SETTINGS, TEMPLATE, out=tmp_path / "more")
    before, after = (set(map(tuple, ids(each.examples))) for each in (few, more))
    assert before < after
    assert 5 < len(after) < 30


def test_another_weight_is_prepared_anew(model: Path, data: Path, out: Path) -> None:
    prepare_examples(model, data, SETTINGS, TEMPLATE, out=out)
    half = [DataFile(data, "a", weight=0.5)]
    some = prepare_examples(model, half, SETTINGS, TEMPLATE, out=out)
    assert some.counts.examples < 30
    assert prepare_examples(model, half, SETTINGS, TEMPLATE, out=out) == some


def test_weights_that_leave_nothing_are_told_from_a_share_that_does(
    model: Path, data: Path, out: Path
) -> None:
    none = [DataFile(data, "a", weight=1e-9)]
    with pytest.raises(DataError, match="weights that leave out all"):
        prepare_examples(model, none, SETTINGS, TEMPLATE, out=out)
