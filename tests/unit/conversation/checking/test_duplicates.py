import numpy as np
import pytest

from tasks.core.conversation.checking import duplicates, signatures
from tasks.core.conversation.checking.duplicates import Duplicate, DuplicateFinder
from tasks.core.conversation.checking.lengths import Size
from tasks.core.conversation.checking.signatures import signed
from tasks.core.conversation.records import Conversation, Turn

SIZE = Size(2, 10)


def words(seed: int, count: int = 200) -> list[str]:
    return [f"kata{i}" for i in np.random.default_rng(seed).integers(0, 5000, count)]


def talk(said: list[str], id: str = "x") -> Conversation:
    half = len(said) // 2
    return Conversation(
        id, (Turn("human", " ".join(said[:half])), Turn("gpt", " ".join(said[half:])))
    )


def found(*said: list[str]) -> list[Duplicate]:
    with DuplicateFinder() as finder:
        for position, one in enumerate(said, start=1):
            finder.add(signed([(position, talk(one, f"id-{position}"), Size(2, position))]))
        return list(finder.duplicates())


def jaccard(a: list[str], b: list[str]) -> float:
    def shingles(said: list[str]) -> set[tuple[str, ...]]:
        return {tuple(said[i : i + 5]) for i in range(len(said) - 4)}

    return len(shingles(a) & shingles(b)) / len(shingles(a) | shingles(b))


def test_a_copy_names_the_first_of_its_kind() -> None:
    other, same = words(1), words(2)
    copies = found(same, other, same, same)
    assert [(d.position, d.id, d.original_position, d.original_id, d.exact) for d in copies] == [
        (3, "id-3", 1, "id-1", True),
        (4, "id-4", 1, "id-1", True),
    ]
    assert [d.size for d in copies] == [Size(2, 3), Size(2, 4)]


def test_a_few_changed_words_make_a_near_duplicate() -> None:
    changed = words(1)
    changed[50], changed[150] = "lain", "beda"
    assert jaccard(words(1), changed) > duplicates.SIMILAR
    (near,) = found(words(1), changed)
    assert (near.position, near.exact) == (2, False)


def pairs_that_share(share: float, pairs: int = 40) -> list[tuple[list[str], list[str]]]:
    """Return pairs of texts whose five-word sequences overlap by that share, within 0.01."""
    made = []
    for seed in range(pairs):
        one = words(seed, 400)
        other, at = list(one), 0
        while jaccard(one, other) > share:
            other[-1 - at] = f"ganti{seed}x{at}"  # from the end: each word changes one sequence
            at += 1
        assert jaccard(one, other) == pytest.approx(share, abs=0.01)
        made.append((one, other))
    return made


@pytest.mark.parametrize(("share", "least", "most"), [(0.87, 38, 40), (0.8, 12, 28), (0.73, 0, 2)])
def test_the_documented_share_divides_near_duplicates_from_others(
    share: float, least: int, most: int
) -> None:
    """docs/data.md says 80%; the estimate's error is below 4%, so a tenth away it hardly errs."""
    near = sum(bool(found(*pair)) for pair in pairs_that_share(share))
    assert least <= near <= most


def test_a_system_message_that_all_records_share_makes_no_duplicates() -> None:
    system = " ".join(words(9, 2000))
    with DuplicateFinder() as finder:
        for seed in (1, 2, 1):
            told = Conversation("x", talk(words(seed, 20)).turns, system)
            finder.add(signed([(seed, told, SIZE)]))
        finder.add(signed([(4, talk(words(2, 20)), SIZE)]))
        copies = list(finder.duplicates())
    assert [(copy.position, copy.exact) for copy in copies] == [(1, True), (4, False)]


def test_case_and_punctuation_do_not_hide_a_near_duplicate() -> None:
    (near,) = found(words(1), [word.upper() + "!" for word in words(1)])
    assert not near.exact


def test_records_that_share_half_are_both_kept() -> None:
    half = words(1)[:140] + words(2)[:60]
    assert 0.4 < jaccard(words(1), half) < 0.6
    assert found(words(1), half) == []


def test_short_records_are_duplicates_only_when_they_say_the_same() -> None:
    assert found(["ya", "baik"], ["ya", "bagus"]) == []
    assert len(found(["ya", "baik"], ["ya", "baik"])) == 1


def test_the_estimate_is_near_the_true_share() -> None:
    # 128 hashes: a standard deviation of at most 0.044; four of them.
    for changes in (0, 5, 15, 40):
        changed = words(1)
        for place in np.random.default_rng(changes).permutation(200)[:changes]:
            changed[place] = f"ganti{place}"
        a, b = signatures.signatures([" ".join(said) for said in (words(1), changed)])
        assert float(np.mean(a == b)) == pytest.approx(jaccard(words(1), changed), abs=0.18)


def test_nothing_among_many_different_records_is_a_duplicate() -> None:
    assert found(*(words(seed, 30) for seed in range(500))) == []


def test_pieces_of_the_sorted_keys_are_joined_right(monkeypatch: pytest.MonkeyPatch) -> None:
    said = [words(seed % 40, 30) for seed in range(120)]
    whole = found(*said)
    monkeypatch.setattr(duplicates, "_BATCH_RECORDS", 7)
    assert found(*said) == whole
    assert [d.position for d in whole] == list(range(41, 121))
    assert all(d.original_position == (d.position - 1) % 40 + 1 for d in whole)


def test_a_record_of_a_million_words_needs_no_memory_for_all_its_hashes() -> None:
    import tracemalloc

    text = " ".join(words(3, 300_000))
    tracemalloc.start()
    signatures.signatures([text])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # All hashes at once would take 300 MB.
    assert peak < 80e6


def test_a_signature_does_not_depend_on_what_is_computed_beside_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    texts = [" ".join(words(seed, count)) for seed, count in enumerate((0, 1, 4, 5, 90, 700, 6))]
    together = signatures.signatures(texts)
    monkeypatch.setattr(signatures, "_SHINGLES_AT_ONCE", 13)
    assert np.array_equal(together, np.concatenate([signatures.signatures([t]) for t in texts]))
    assert np.array_equal(together, signatures.signatures(texts))


def test_words_are_those_of_the_regular_expression_in_any_script() -> None:
    latin = "".join(map(chr, range(0x300))) + " Rp10_000,- A.B'c — “kué”é¼x İ\u0085y\u2028z ٣x"
    for text in (latin, latin * 2 + "a" * 4000, "こんにちは、元気ですか？ はい。", "", "—"):
        found = signatures._WORD.findall(text.lower())
        assert signatures._words(text) == [word.encode() for word in found]
