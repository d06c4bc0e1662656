import json
from pathlib import Path

import numpy as np
import pytest

from tasks.core.conversation.checking import duplicates
from tasks.core.conversation.checking.leaks import Leaks, find_leaks
from tasks.core.errors import DataError


def words(seed: int, count: int = 60) -> list[str]:
    return [f"kata{i}" for i in np.random.default_rng(seed).integers(0, 5000, count)]


def record(id: str, said: list[str], system: str | None = None) -> dict[str, object]:
    half = len(said) // 2
    turns = [("human", " ".join(said[:half])), ("gpt", " ".join(said[half:]))]
    if system is not None:
        turns.insert(0, ("system", system))
    return {"id": id, "conversations": [{"from": who, "value": what} for who, what in turns]}


def nearly(seed: int) -> list[str]:
    said = words(seed)
    said[30] = "lain"
    return said


def leaks(tmp_path: Path, training: list[object], held_out: list[object]) -> Leaks:
    (tmp_path / "training.json").write_text(json.dumps(training))
    (tmp_path / "held_out.json").write_text(json.dumps(held_out))
    return find_leaks(tmp_path / "training.json", tmp_path / "held_out.json").first(None)


def test_exact_and_near_leaks_are_counted_and_named(tmp_path: Path) -> None:
    training = [record(f"t{seed}", words(seed)) for seed in range(20)]
    held_out = [record("a", words(3)), record("b", nearly(7)), record("c", words(99))]
    found = leaks(tmp_path, training, held_out)
    assert (found.training_records, found.held_out_records) == (20, 3)
    assert (found.exact, found.near, found.count, found.whole) == (1, 1, 2, False)
    assert [str(leak) for leak in found.first] == [
        "held-out record 1 (a) says the same as training record 4 (t3)",
        "held-out record 2 (b) says almost the same as training record 8 (t7)",
    ]


def test_held_out_records_that_repeat_each_other_are_no_leak(tmp_path: Path) -> None:
    held_out = [record("a", words(1)), record("b", words(1)), record("c", nearly(1))]
    assert leaks(tmp_path, [record("t", words(2))], held_out).count == 0


def test_a_leak_is_found_beside_held_out_records_that_are_like_it(tmp_path: Path) -> None:
    held_out = [record("a", nearly(1)), record("b", words(1))]
    assert leaks(tmp_path, [record("t", words(1))], held_out).count == 2


def test_a_record_with_the_same_words_goes_before_one_that_is_near(tmp_path: Path) -> None:
    training = [record("near", nearly(1)), record("same", words(1))]
    (leak,) = leaks(tmp_path, training, [record("a", words(1))]).first
    assert (leak.training_id, leak.exact) == ("same", True)


def test_a_shared_system_message_is_no_leak(tmp_path: Path) -> None:
    system = " ".join(words(5, 1000))
    training = [record("t", words(1, 12), system)]
    assert leaks(tmp_path, training, [record("a", words(2, 12), system)]).count == 0


def test_the_same_file_is_a_whole_leak_in_any_order_and_form(tmp_path: Path) -> None:
    training = [record(str(seed), words(seed)) for seed in range(30)]
    assert leaks(tmp_path, training, training[::-1]).whole
    (tmp_path / "lines.jsonl").write_text("\n".join(map(json.dumps, training)))
    assert find_leaks(tmp_path / "training.json", tmp_path / "lines.jsonl").first(None).exact == 30


def test_many_copies_in_the_training_data_hide_no_leak(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(duplicates, "_BATCH_RECORDS", 7)
    training = [record(str(i), words(1)) for i in range(100)] + [record("x", words(2))]
    found = leaks(tmp_path, training, [record("a", words(2)), record("b", words(1))])
    assert found.whole


@pytest.mark.parametrize("empty", ["training", "held_out"])
def test_nothing_leaks_where_nothing_is(tmp_path: Path, empty: str) -> None:
    one = [record("a", words(1))]
    found = leaks(tmp_path, [] if empty == "training" else one, [] if empty == "held_out" else one)
    assert (found.count, found.whole) == (0, False)


def test_records_that_cannot_be_read_are_not_compared(tmp_path: Path) -> None:
    found = leaks(tmp_path, [record("a", words(1)), {"id": "x"}], [record("b", words(1)), 7])
    assert (found.training_records, found.held_out_records, found.whole) == (1, 1, True)


def test_leaks_are_those_of_the_records_that_are_asked_for(tmp_path: Path) -> None:
    leaks(tmp_path, [record("t", words(1))], [7, record("a", words(1)), record("b", words(2))])
    found = find_leaks(tmp_path / "training.json", tmp_path / "held_out.json")
    assert (found.first(1).count, found.first(1).whole) == (1, True)
    assert (found.among([3]).count, found.among([3]).whole) == (0, False)
    assert found.among([2, 3]).held_out_records == 2


def test_a_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError):
        find_leaks(tmp_path / "none.json", tmp_path / "none.json")
