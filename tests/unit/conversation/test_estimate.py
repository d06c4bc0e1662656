"""Rough lengths of conversations, for the times of a plan."""

import json
from pathlib import Path

import pytest

from tasks.core.conversation.estimate import lengths_of, training_lengths
from tasks.core.recipe import Finetune


def written(path: Path, *lengths: int) -> Path:
    records = [
        {"id": str(i), "conversations": [_turn("human", length), _turn("gpt", length)]}
        for i, length in enumerate(lengths)
    ]
    path.write_text(json.dumps(records))
    return path


def _turn(speaker: str, length: int) -> dict[str, str]:
    return {"from": speaker, "value": "x" * length}


@pytest.mark.parametrize("content", [None, "", "[]", "{", "[1, 2]"])
def test_what_cannot_be_read_has_no_lengths(tmp_path, content):
    path = tmp_path / "conversation.json"
    if content is not None:
        path.write_text(content)
    assert lengths_of(path, cut=512) is None


def test_longer_texts_have_more_tokens_up_to_the_cut(tmp_path):
    short, long = (lengths_of(written(tmp_path / "c.json", n), cut=512) for n in (100, 500))
    cut = lengths_of(written(tmp_path / "c.json", 5000), cut=512)
    assert short and long and cut
    assert 50 < short.mean_tokens < long.mean_tokens < cut.mean_tokens == 512


def test_padding_counts_the_longest_of_each_micro_batch(tmp_path):
    path = written(tmp_path / "c.json", 100, 900, 100, 900)
    alone, pairs = (lengths_of(path, cut=2048, padded_to_longest_of=n) for n in (1, 2))
    assert alone and pairs
    assert alone.padded_tokens == alone.mean_tokens == pairs.mean_tokens
    assert pairs.padded_tokens > 1.5 * pairs.mean_tokens


def test_both_sides_of_a_pair_are_padded_to_the_longest_of_all(tmp_path: Path) -> None:
    path = tmp_path / "pairs.json"
    question = [_turn("human", 26)]
    sides = [("x" * 260, "y"), ("x", "y" * 2600)]
    pairs = [
        {"id": str(i), "conversations": question, "chosen": a, "rejected": b}
        for i, (a, b) in enumerate(sides)
    ]
    path.write_text(json.dumps(pairs))
    alone, together = (lengths_of(path, cut=2048, padded_to_longest_of=n) for n in (1, 2))
    assert alone and together
    longest = 10 + 1000 + 2 * 6
    assert together.padded_tokens == 2 * longest
    assert alone.padded_tokens == (2 * (10 + 100 + 2 * 6) + 2 * longest) / 2
    assert together.mean_tokens == alone.mean_tokens < alone.padded_tokens


def test_only_padded_batches_count_padding(tmp_path):
    path = written(tmp_path / "c.json", 100, 900)
    pad, pack = (training_lengths(Finetune(data=path, batching=b)) for b in ("pad", "pack"))
    assert pad and pack
    assert pad.padded_tokens > pack.padded_tokens
    assert pad.tokens == pack.tokens


def test_a_large_file_is_taken_to_be_like_its_beginning(tmp_path):
    many = 12_000  # of 1 kB: more than what is read
    found = lengths_of(written(tmp_path / "c.json", *[500] * many), cut=2048)
    assert found
    assert found.conversations == pytest.approx(many, rel=0.15)


def test_sources_count_as_often_as_an_epoch_learns_them(tmp_path: Path) -> None:
    one, other = written(tmp_path / "a.json", 100, 100), written(tmp_path / "b.json", 400, 400)
    sources = [{"file": one, "weight": 3}, {"file": other, "weight": 0.5}]
    alone = [training_lengths(Finetune(data=each)) for each in (one, other)]
    found = training_lengths(Finetune(data=sources))
    assert found is not None and alone[0] is not None and alone[1] is not None
    assert found.conversations == 3 * 2 + 1
    mean = (6 * alone[0].mean_tokens + alone[1].mean_tokens) / 7
    assert found.mean_tokens == pytest.approx(mean)


@pytest.mark.parametrize("unknown", [{"repo": "a/b"}, {"collected": "toko"}, "none.json"])
def test_what_is_not_all_here_has_no_length(tmp_path: Path, unknown: object) -> None:
    here = written(tmp_path / "a.json", 100)
    assert training_lengths(Finetune(data=[here, unknown])) is None
