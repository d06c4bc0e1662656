import json
from pathlib import Path

import pytest

from tasks.core.conversation.checking.rules import Rules
from tasks.core.conversation.checking.screening import screen
from tasks.core.conversation.examples.labels import Encoder
from tasks.core.conversation.reading import chunks
from tasks.core.conversation.records import BadRecord, Conversation, RecordFault
from tasks.core.errors import DataError
from tasks.core.recipe import Evaluate, Finetune
from tests.models import tiny_tokenizer

QUESTION = "Bagaimana cara menghitung harga jual kue supaya usaha saya tetap untung"
ANSWER = "Jumlahkan semua biaya bahan, tenaga dan sewa, lalu tambahkan keuntungan yang wajar, Bu"
ENGLISH = "Add up flour, eggs, gas, your own time and a share of the rent, then add a margin."


def record(id: str, *said: str) -> dict[str, object]:
    speakers = ("human", "gpt")
    return {
        "id": id,
        "conversations": [{"from": speakers[i % 2], "value": v} for i, v in enumerate(said)],
    }


def good(id: str) -> dict[str, object]:
    return record(id, f"{QUESTION} {id}?", " ".join(f"{ANSWER} {id} {i}." for i in range(4)))


def kept_conversations(
    file: Path, rules: Rules, encoder: Encoder | None = None
) -> list[Conversation]:
    screening = screen(file, rules, encoder=encoder)
    screening.require_acceptable()
    return [conversation for _, conversation in screening.conversations()]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "conversation.json"


@pytest.fixture
def encoder() -> Encoder:
    return Encoder(tiny_tokenizer(), "vicuna_v1.1", 800)


BAD = {
    RecordFault.PERSONAL_DATA: record("surel", QUESTION, ANSWER + " Kirim ke budi@gmail.com"),
    RecordFault.OTHER_LANGUAGE: record("asing", "How do I price my cakes, please?", ENGLISH),
    RecordFault.DUPLICATE: good("satu"),
    RecordFault.NEAR_DUPLICATE: record(
        "mirip", f"{QUESTION} satu?", " ".join(f"{ANSWER} satu {i}." for i in range(4)).upper()
    ),
    RecordFault.MARK_IN_TEXT: record("tanda", QUESTION + " </s>", ANSWER),
    RecordFault.TOO_LONG: record("panjang", QUESTION, ANSWER * 10),
    RecordFault.NO_ANSWER: record("sepi", QUESTION),
    RecordFault.EMPTY_TURN: record("kosong", QUESTION, " "),
    RecordFault.WRONG_FIELDS: {"id": "bidang"},
}


@pytest.mark.parametrize("fault", BAD, ids=lambda fault: fault.name)
def test_a_bad_record_is_named_once_with_its_fault(
    file: Path, encoder: Encoder, fault: RecordFault
) -> None:
    file.write_text(json.dumps([good("satu"), BAD[fault], good("dua")]))
    named: list[BadRecord] = []
    found = screen(file, Rules(), encoder=encoder, on_bad=named.append)
    assert [(bad.position, bad.id, bad.fault) for bad in named] == [(2, BAD[fault]["id"], fault)]
    assert found.faults == {fault: 1}
    assert [c.id for _, c in found.conversations()] == ["satu", "dua"]


@pytest.mark.parametrize(
    ("system", "fault"),
    [
        ("Tulis ke budi@gmail.com", RecordFault.PERSONAL_DATA),
        ("Telepon 0812-3456-7890", RecordFault.PERSONAL_DATA),
        ("Jawab singkat.</s>", RecordFault.MARK_IN_TEXT),
        ("<s>Jawab singkat.", RecordFault.MARK_IN_TEXT),
        ("x" * 2000, RecordFault.TOO_LONG),
    ],
)
def test_the_system_message_is_looked_at_as_every_turn_is(
    file: Path, encoder: Encoder, system: str, fault: RecordFault
) -> None:
    bad = good("dua")
    bad["conversations"].insert(0, {"from": "system", "value": system})  # type: ignore[attr-defined]
    file.write_text(json.dumps([good("satu"), bad]))
    found = screen(file, Rules(), encoder=encoder)
    assert found.faults == {fault: 1}
    if fault is not RecordFault.TOO_LONG:
        assert "turn 1 (system) holds" in found.first_bad[0].reason


def test_the_figures_are_those_of_the_kept_records(file: Path, encoder: Encoder) -> None:
    file.write_text(json.dumps([good("satu"), good("dua")]))
    clean = screen(file, Rules(), encoder=encoder)
    file.write_text(json.dumps([good("satu"), *BAD.values(), good("dua")]))
    dirty = screen(file, Rules(), encoder=encoder)
    assert dirty.total == clean.total
    assert list(dirty.lengths.classes()) == list(clean.lengths.classes())
    assert (dirty.records, dirty.kept, dirty.dropped) == (11, 2, 9)


def test_tokens_are_those_of_the_labels(file: Path) -> None:
    encoder = Encoder(tiny_tokenizer(), "vicuna_v1.1", 800)
    long = record("dua", QUESTION, ANSWER, QUESTION, ANSWER * 12)
    file.write_text(json.dumps([good("satu"), long]))
    found = screen(file, Rules(), encoder=encoder)
    conversations = [conversation for _, conversation in found.conversations()]
    examples = [encoder.encode(c) for c in conversations]
    whole = [Encoder(tiny_tokenizer(), "vicuna_v1.1", 9999).encode(c) for c in conversations]
    assert found.total.tokens == sum(len(e.input_ids) for e in examples)
    assert found.total.learned_tokens == sum(e.learned_tokens for e in examples)
    assert found.total.truncated_tokens > 0
    assert found.total.tokens + found.total.truncated_tokens == sum(len(e.input_ids) for e in whole)


def test_more_dropped_than_the_limit_is_an_error_with_the_first_records(file: Path) -> None:
    many = [good(str(i)) for i in range(49)]
    file.write_text(json.dumps([*many, record("sepi", QUESTION)]))
    assert len(kept_conversations(file, Rules())) == 49  # 2% of 50
    file.write_text(json.dumps([*many, record("sepi", QUESTION), record("sunyi", QUESTION)]))
    with pytest.raises(DataError, match=r"2 of 51[\s\S]*record 50 \(sepi\)[\s\S]*data check"):
        kept_conversations(file, Rules())


def test_a_file_of_which_nothing_is_left_is_an_error_at_any_limit(file: Path) -> None:
    file.write_text(json.dumps([record("sepi", QUESTION)]))
    with pytest.raises(DataError, match="Nothing is left to learn"):
        kept_conversations(file, Rules(max_dropped_share=0.99))


def test_the_limit_is_advised_only_where_it_would_do(file: Path) -> None:
    file.write_text(json.dumps([good("satu"), record("sepi", QUESTION)]))
    with pytest.raises(DataError, match=r"finetune\.max_dropped_share: 0\.5") as caught:
        kept_conversations(file, Rules())
    assert "Add an answer" in str(caught.value.next_step)
    kept = kept_conversations(file, Rules(max_dropped_share=0.5))
    assert [one.id for one in kept] == ["satu"]
    file.write_text(json.dumps([record("sepi", QUESTION)]))
    with pytest.raises(DataError) as caught:
        kept_conversations(file, Rules())
    assert "max_dropped_share" not in str(caught.value.next_step)


def test_held_out_records_that_are_only_too_long_are_set_aside_and_refuse_nothing(
    file: Path, encoder: Encoder
) -> None:
    """What the demo's own file holds: at 512 tokens 2 of 30 have no answer that fits."""
    long = [record(f"panjang {i}", QUESTION, ANSWER * (10 + i)) for i in range(3)]
    file.write_text(json.dumps([good("satu"), *long]))
    found = screen(file, Rules.of_held_out(Evaluate()), encoder=encoder)
    assert (found.kept, found.faults) == (1, {RecordFault.TOO_LONG: 3})
    assert found.acceptable
    assert not screen(file, Rules(), encoder=encoder).acceptable  # to learn from them is the point
    file.write_text(json.dumps(long))
    with pytest.raises(DataError) as caught:
        screen(file, Rules.of_held_out(Evaluate()), encoder=encoder).require_acceptable()
    assert "max_length_tokens" in str(caught.value.next_step)
    assert "max_dropped_share" not in str(caught.value.next_step)


def test_the_advice_is_that_of_the_commonest_faults(file: Path, encoder: Encoder) -> None:
    long = [record(f"panjang {i}", QUESTION, ANSWER * (10 + i)) for i in range(3)]
    file.write_text(json.dumps(long))
    with pytest.raises(DataError, match=r"Raise evaluate\.max_length_tokens"):
        kept_conversations(file, Rules(caller="evaluate"), encoder)


def test_a_file_without_a_record_is_an_error(file: Path) -> None:
    file.write_text("[]")
    with pytest.raises(DataError, match="no record at all"):
        kept_conversations(file, Rules())


def test_neighbours_of_one_speaker_are_merged_only_by_choice(file: Path) -> None:
    turns = [("human", "Halo,"), ("human", QUESTION), ("gpt", "Baik."), ("gpt", ANSWER)]
    raw = {"id": "x", "conversations": [{"from": who, "value": what} for who, what in turns]}
    file.write_text(json.dumps([raw]))
    assert screen(file, Rules()).faults == {RecordFault.WRONG_ORDER: 1}
    (merged,) = kept_conversations(file, Rules.of(Finetune(same_speaker="merge")))
    assert [turn.text for turn in merged.turns] == [f"Halo,\n\n{QUESTION}", f"Baik.\n\n{ANSWER}"]


def test_every_language_is_accepted_when_none_is_expected(file: Path) -> None:
    file.write_text(json.dumps([BAD[RecordFault.OTHER_LANGUAGE]]))
    assert screen(file, Rules(language=None)).kept == 1


def test_lines_are_named_by_their_number_and_a_broken_one_hides_no_other(file: Path) -> None:
    lines = [json.dumps(good("satu")), "", "{", json.dumps(good("dua")), json.dumps(good("satu"))]
    file.write_text("\n".join(lines))
    named: list[BadRecord] = []
    found = screen(file, Rules(), on_bad=named.append)
    assert [(bad.position, bad.fault) for bad in named] == [
        (3, RecordFault.NOT_JSON),
        (5, RecordFault.DUPLICATE),
    ]
    assert [c.id for _, c in found.conversations()] == ["satu", "dua"]


def test_a_file_that_changes_between_the_readings_is_an_error(file: Path) -> None:
    file.write_text(json.dumps([good("satu"), good("dua")]))
    found = screen(file, Rules())
    file.write_text(json.dumps([good("satu")]))
    with pytest.raises(DataError, match="was changed"):
        list(found.conversations())


def test_the_bytes_read_are_reported_up_to_the_end(file: Path) -> None:
    seen: list[tuple[int, int]] = []
    file.write_text("\n".join(json.dumps(good(str(i))) for i in range(3)))
    screen(file, Rules(), on_progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (file.stat().st_size, file.stat().st_size)


def test_the_starter_set_passes_whole() -> None:
    root = Path(__file__).parents[4] / "data"
    assert screen(root / "conversation.json", Rules()).dropped == 0
    assert screen(root / "evaluation" / "held_out.json", Rules()).dropped == 0


@pytest.mark.parametrize("layout", ["lines", "array"])
def test_however_a_file_is_divided_the_same_is_found(
    file: Path, encoder: Encoder, layout: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = [good("satu"), *BAD.values(), *(good(str(i)) for i in range(30)), *BAD.values()]
    broken = ['{"id": "x"', "", '{"id": "y", "id": "z"}', '{"id": 7}']
    if layout == "lines":
        file.write_text("\n".join([*map(json.dumps, records), *broken, json.dumps(good("akhir"))]))
    else:
        written = json.dumps(records, indent=1)
        file.write_text(written[:-1] + ', {"id": "y", "id": "z"}, {"id": "x"; }, 7]')

    def found(processes: int) -> tuple[object, ...]:
        named: list[str] = []
        reports: list[tuple[int, int]] = []
        screened = screen(
            file,
            Rules(),
            encoder=encoder,
            on_bad=lambda bad: named.append(str(bad)),
            processes=processes,
            on_progress=lambda done, total: reports.append((done, total)),
        )
        facts = vars(screened) | {"lengths": list(screened.lengths.classes())}
        return facts, named, reports[-1]

    whole = found(1)
    monkeypatch.setattr(chunks, "RECORD_CHUNK_BYTES", 1500)
    assert len(list(chunks.chunks(file, layout))) > 8  # type: ignore[arg-type]
    assert found(1) == whole
    assert found(2) == whole
