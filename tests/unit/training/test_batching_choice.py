from pathlib import Path

import pytest

from tasks.core.conversation.examples.file import ExampleFile
from tasks.core.conversation.examples.labels import Encoder
from tasks.core.conversation.examples.writer import ExampleWriter
from tasks.core.conversation.records import Conversation, Turn
from tasks.core.recipe import Finetune
from tasks.core.training.batching.choice import batching_of, row_count
from tests.models import tiny_tokenizer

LENGTHS = (3, 60, 5, 90, 40, 8)


@pytest.fixture
def examples(tmp_path: Path) -> ExampleFile:
    talks = [Conversation("x", (Turn("human", "a" * n), Turn("gpt", "b" * n))) for n in LENGTHS]
    encoder = Encoder(tiny_tokenizer(), "vicuna_v1.1", 512)
    with ExampleWriter(tmp_path / "e") as writer:
        for talk in talks:
            writer.add(encoder.encode(talk))
        writer.finish()
    return ExampleFile(tmp_path / "e")


def test_each_choice_trains_every_learned_token_once(examples: ExampleFile) -> None:
    whole = sorted(int(t) for i in range(len(examples)) for t in examples[i]["labels"] if t >= 0)
    for choice in ("pad", "group", "pack"):
        settings = Finetune(batching=choice, max_length_tokens=512, micro_batch_size=2)
        batching = batching_of(settings, examples, 0)
        order = list(batching.sampler)
        batches = [
            batching.collate([batching.rows[i] for i in order[at : at + 2]])
            for at in range(0, len(order), 2)
        ]
        learned = sorted(int(t) for b in batches for t in b["labels"].flatten() if t >= 0)
        assert learned == whole, choice
        assert all(b["input_ids"].shape[1] % 8 == 0 for b in batches)


def test_packing_makes_fewer_rows(examples: ExampleFile) -> None:
    assert row_count(Finetune(batching="pad"), examples) == len(LENGTHS)
    assert row_count(Finetune(batching="pack", max_length_tokens=2048), examples) == 1


def test_lengths_are_known_without_reading_the_examples(examples: ExampleFile) -> None:
    assert examples.lengths == [len(examples[i]["input_ids"]) for i in range(len(examples))]


@pytest.mark.parametrize("choice", ["pad", "group", "pack"])
def test_the_longest_row_is_in_the_first_micro_batch(examples: ExampleFile, choice: str) -> None:
    settings = Finetune.model_validate({"batching": choice, "max_length_tokens": 128})
    batching = batching_of(settings, examples, 0)
    lengths = [len(batching.rows[i]["input_ids"]) for i in batching.sampler]
    assert len(lengths) > 2
    assert lengths[0] == max(lengths)


def test_smaller_micro_batches_keep_the_groups_that_were_asked_for(examples: ExampleFile) -> None:
    asked = Finetune(batching="group", micro_batch_size=4)
    smaller = asked.model_copy(update={"micro_batch_size": 2})
    order = list(batching_of(asked, examples, 0).sampler)
    assert list(batching_of(smaller, examples, 0, in_groups_of=4).sampler) == order
    assert list(batching_of(smaller, examples, 0).sampler) != order
