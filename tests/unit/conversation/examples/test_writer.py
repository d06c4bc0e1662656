from pathlib import Path

import pytest
from safetensors.torch import load_file

from tasks.core.conversation.examples.file import ExampleFile
from tasks.core.conversation.examples.labels import Encoder
from tasks.core.conversation.examples.writer import ExampleCounts, ExampleRows, ExampleWriter
from tasks.core.conversation.records import Conversation, Turn
from tasks.core.errors import DataError
from tests.models import tiny_tokenizer


def talk(*words: str) -> Conversation:
    return Conversation(
        "x", tuple(Turn("gpt" if i % 2 else "human", word) for i, word in enumerate(words))
    )


SHORT, LONG = talk("a", "b", "c", "d" * 40), talk("e", "f" * 400)


@pytest.fixture
def encoder() -> Encoder:
    return Encoder(tiny_tokenizer(), "vicuna_v1.1", 240)


def write(path: Path, talks: list[Conversation], encoder: Encoder) -> ExampleCounts:
    with ExampleWriter(path) as writer:
        for one in talks:
            writer.add(encoder.encode(one))
        return writer.finish()


def test_nothing_left_to_learn_is_an_error_and_leaves_no_file(
    tmp_path: Path, encoder: Encoder
) -> None:
    with pytest.raises(DataError, match=r"Nothing is left to learn[\s\S]*max_length_tokens"):
        write(tmp_path / "examples", [LONG, LONG], encoder)
    assert list(tmp_path.iterdir()) == []


def test_the_file_gives_back_every_example_that_fits(tmp_path: Path, encoder: Encoder) -> None:
    path = tmp_path / "examples"
    counts = write(path, [SHORT, LONG, SHORT], encoder)
    expected = encoder.encode(SHORT)
    read = ExampleFile(path)
    assert len(read) == counts.examples == 2
    assert [example["input_ids"].tolist() for example in read] == [expected.input_ids] * 2  # type: ignore[attr-defined]
    assert read[1]["labels"].tolist() == expected.labels
    assert (counts.too_long_conversations, counts.too_long_answers) == (1, 1)
    assert counts.tokens == 2 * len(expected.input_ids)
    assert counts.learned_tokens == 2 * expected.learned_tokens


def test_an_exception_on_the_way_leaves_no_file(tmp_path: Path, encoder: Encoder) -> None:
    with pytest.raises(KeyboardInterrupt), ExampleWriter(tmp_path / "examples") as writer:
        writer.add(encoder.encode(SHORT))
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_the_file_is_what_the_safetensors_library_reads(tmp_path: Path, encoder: Encoder) -> None:
    write(tmp_path / "examples", [SHORT, SHORT], encoder)
    tensors = load_file(tmp_path / "examples")
    length = len(encoder.encode(SHORT).input_ids)
    assert {name: str(t.dtype) for name, t in tensors.items()} == {
        "starts": "torch.int64",
        "input_ids": "torch.int32",
        "labels": "torch.int32",
    }
    assert tensors["starts"].tolist() == [0, length, 2 * length]
    assert tensors["labels"].tolist() == encoder.encode(SHORT).labels * 2


def test_reading_maps_the_file_instead_of_copying_it(tmp_path: Path, encoder: Encoder) -> None:
    path = tmp_path / "examples"
    write(path, [SHORT], encoder)
    examples = ExampleFile(path)
    assert len(examples) == 1
    assert str(path) in Path("/proc/self/maps").read_text()


@pytest.mark.parametrize("dropped", [(), (1,), (2, 3), (1, 4), (5,), (1, 2, 3, 4)])
def test_what_is_left_out_later_leaves_no_trace(
    tmp_path: Path, encoder: Encoder, dropped: tuple[int, ...]
) -> None:
    talks = [talk(f"tanya {i}", f"jawab {i}" * i) for i in range(1, 6)]
    marks = bytearray(i in dropped for i in range(max(dropped, default=0) + 1))
    with ExampleWriter(tmp_path / "later") as writer:
        for number, one in enumerate(talks[:3], start=1):
            writer.extend(ExampleRows.of([(number, encoder.encode(one))]))
        rows = [(number - 3, encoder.encode(talks[number - 1])) for number in (4, 5)]
        writer.extend(ExampleRows.of(rows), before=3)
        writer.leave_out(marks)
        counts = writer.finish()
    left = [one for number, one in enumerate(talks, start=1) if number not in dropped]
    assert counts == write(tmp_path / "without", left, encoder)
    assert (tmp_path / "later").read_bytes() == (tmp_path / "without").read_bytes()


def test_weights_that_leave_nothing_say_so(tmp_path: Path, encoder: Encoder) -> None:
    with ExampleWriter(tmp_path / "examples") as writer:
        writer.extend(ExampleRows.of([(1, encoder.encode(SHORT))], [0]))
        with pytest.raises(DataError, match="weights that leave out all 1 conversations"):
            writer.finish()


@pytest.mark.parametrize(
    "times", [[1, 1, 1, 1], [2, 1, 1, 3], [0, 2, 2, 0], [1, 0, 3, 1], [3, 0, 0, 1], [0, 0, 0, 1]]
)
@pytest.mark.parametrize("dropped", [[], [2], [1, 4]])
def test_the_file_holds_each_example_as_often_as_it_says_but_for_what_is_dropped(
    tmp_path: Path, encoder: Encoder, times: list[int], dropped: list[int]
) -> None:
    talks = [talk(f"tanya {n}", f"jawab {n} " * n) for n in range(1, 5)]
    encoded = [encoder.encode(each) for each in talks]
    marks = bytearray(5)
    for position in dropped:
        marks[position] = 1
    expected = [
        example.input_ids
        for again in range(3)
        for at, (example, count) in enumerate(zip(encoded, times, strict=True), start=1)
        if at not in dropped and count > again
    ]
    with ExampleWriter(tmp_path / "examples") as writer:
        writer.extend(ExampleRows.of(list(enumerate(encoded, start=1)), times))
        writer.leave_out(marks)
        if not expected:
            with pytest.raises(DataError):
                writer.finish()
            return
        counts = writer.finish()
    read = ExampleFile(tmp_path / "examples")
    assert [read[i]["input_ids"].tolist() for i in range(len(read))] == expected
    assert (counts.examples, counts.tokens) == (len(expected), sum(map(len, expected)))
