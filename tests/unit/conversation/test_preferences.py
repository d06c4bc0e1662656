"""Preferences: what is wrong is named, three forms are one, and only the answers are judged."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.core.conversation.checking.leaks import find_leaks
from tasks.core.conversation.checking.rules import Rules
from tasks.core.conversation.checking.screening import screen
from tasks.core.conversation.estimate import lengths_of
from tasks.core.conversation.examples.file import ExampleFile, PairFile
from tasks.core.conversation.examples.labels import IGNORED, Encoder
from tasks.core.conversation.examples.pair_labels import encoded
from tasks.core.conversation.examples.split import is_validation
from tasks.core.conversation.formats import is_preference
from tasks.core.conversation.preferences import Preference, parse_preference
from tasks.core.conversation.prepared import prepare_examples, read_prepared
from tasks.core.conversation.reading.data_files import DataFile, detect_formats
from tasks.core.conversation.reading.data_sources import local_files
from tasks.core.conversation.reading.scan import scan
from tasks.core.conversation.records import BadRecord, Conversation, RecordFault, Turn
from tasks.core.errors import DataError
from tasks.core.recipe import Finetune
from tasks.core.training.checks import check_conversations
from tests.models import tiny_tokenizer

TEMPLATE = "vicuna_v1.1"
QUESTION = "Berapa harga jual kue lapis saya supaya warung tetap untung setiap bulan"
BETTER = "Jumlahkan biaya bahan, tenaga dan sewa, lalu tambahkan keuntungan yang wajar, Bu."
WORSE = "Terserah Ibu saja, saya tidak tahu berapa harga yang pantas untuk kue itu."
RULES = Rules(method="dpo", max_dropped_share=0.9)


def human(text: str) -> dict[str, str]:
    return {"from": "human", "value": text}


def message(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def pair(id: str = "satu", **changes: object) -> dict[str, Any]:
    record = {
        "id": id,
        "conversations": [human(f"{QUESTION} {id}?")],
        "chosen": f"{BETTER} {id}",
        "rejected": f"{WORSE} {id}",
    }
    return {name: value for name, value in (record | changes).items() if value is not None}


def written(path: Path, records: Iterable[object]) -> Path:
    path.write_text("".join(json.dumps(each) + "\n" for each in records))
    return path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "preferences.jsonl"


@pytest.fixture
def encoder() -> Encoder:
    return Encoder(tiny_tokenizer(), TEMPLATE, 1024)


TWO_TURNS = [human("Halo?"), {"from": "gpt", "value": "Ya, Bu."}]
BAD: dict[str, tuple[object, RecordFault, str]] = {
    "no object": ([1], RecordFault.WRONG_FIELDS, "not an object"),
    "no chosen": (pair(chosen=None), RecordFault.WRONG_FIELDS, "`chosen` is missing"),
    "no rejected": (pair(rejected=None), RecordFault.WRONG_FIELDS, "`rejected` is missing"),
    "a number as answer": (pair(chosen=5), RecordFault.WRONG_FIELDS, "`chosen` is not text"),
    "an empty answer": (pair(rejected=" \n"), RecordFault.EMPTY_TURN, "`rejected` is empty"),
    "half a letter": (pair(chosen="\ud800"), RecordFault.NOT_UTF8, "`chosen` holds half"),
    "equal answers": (pair(rejected=f"{BETTER} satu"), RecordFault.SAME_ANSWERS, "the same answer"),
    "no question": (pair(conversations=[]), RecordFault.WRONG_ORDER, "turn 1: gpt speaks"),
    "no list": (pair(conversations="Halo?"), RecordFault.WRONG_FIELDS, "not a list"),
    "an id that is none": (pair(id={"a": 1}), RecordFault.WRONG_FIELDS, "`id` is not text"),
    "answered before": (
        pair(conversations=TWO_TURNS),
        RecordFault.WRONG_ORDER,
        "turn 3: gpt speaks",
    ),
    "no prompt at all": (
        {"chosen": "a", "rejected": "b"},
        RecordFault.WRONG_FIELDS,
        "no question: name it",
    ),
    "a broken message": (
        {"chosen": [{"role": "assistant"}], "rejected": [message("assistant", "b")]},
        *(RecordFault.WRONG_FIELDS, "`chosen`, message 1"),
    ),
    "different questions": (
        {
            "chosen": [message("user", "a"), message("assistant", "b")],
            "rejected": [message("user", "c"), message("assistant", "d")],
        },
        *(RecordFault.WRONG_FIELDS, "differ before their last message"),
    ),
    "no answer at the end": (
        {"prompt": [message("user", "a")], "chosen": [message("user", "b")], "rejected": []},
        *(RecordFault.WRONG_FIELDS, "`rejected` is neither"),
    ),
    "a question for an answer": (
        {"prompt": "a", "chosen": [message("user", "b")], "rejected": "c"},
        *(RecordFault.NO_ANSWER, "does not end with the assistant's answer"),
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_preference_is_named_with_what_is_wrong(case: str) -> None:
    raw, fault, reason = BAD[case]
    found = parse_preference(raw, 7)
    assert isinstance(found, BadRecord)
    assert (found.position, found.fault) == (7, fault)
    assert reason in found.reason


def test_joined_neighbours_never_hide_that_the_question_is_missing() -> None:
    found = parse_preference(pair(conversations=TWO_TURNS), 1, merge_neighbours=True)
    assert isinstance(found, BadRecord)
    assert "ends with an answer" in found.reason


ASSISTANT = {"chosen": [message("assistant", "Ya.")], "rejected": [message("assistant", "Tidak.")]}
IN_BOTH = {name: [message("user", "Halo?"), *answer] for name, answer in ASSISTANT.items()}
FORMS: dict[str, dict[str, Any]] = {
    "ours": {"conversations": [human("Halo?")], "chosen": "Ya.", "rejected": "Tidak."},
    "TRL's, as text": {"prompt": "Halo?", "chosen": "Ya.", "rejected": "Tidak."},
    "TRL's, as messages": {"prompt": [message("user", "Halo?")], **ASSISTANT},
    "TRL's, with the prompt in both": IN_BOTH,
    "UltraFeedback's": {"prompt": "Halo?", **IN_BOTH, "messages": IN_BOTH["chosen"]},
    "TRL's, with the prompt thrice": {"prompt": [message("user", "Halo?")], **IN_BOTH},
}


@pytest.mark.parametrize("form", FORMS)
def test_all_forms_say_the_same(form: str) -> None:
    found = parse_preference({"id": "3", **FORMS[form]}, 1)
    turns = (Turn("human", "Halo?"), Turn("gpt", "Ya."))
    assert found == Preference("3", turns, None, "Tidak.")


@pytest.mark.parametrize("form", FORMS)
def test_an_id_that_is_made_is_that_of_the_words_wherever_the_record_stands(form: str) -> None:
    found = parse_preference(FORMS[form], 3)
    same = parse_preference(FORMS["ours"], 7)
    other = parse_preference({**FORMS["ours"], "rejected": "Entah."}, 3)
    assert isinstance(found, Preference)
    assert isinstance(same, Preference) and isinstance(other, Preference)
    assert found.id == same.id != other.id


@pytest.mark.parametrize("others", [{"chosen": None, "rejected": None}, {"chosen": "a"}])
def test_answers_that_are_null_make_no_preference_of_a_conversation(
    file: Path, others: dict[str, object]
) -> None:
    said = [message("user", "Halo?"), message("assistant", "Ya, Bu.")]
    written(file, [{"messages": said, **others}])
    assert [each.read_as for each in detect_formats(file, "sft")] == ["openai"]


@pytest.mark.parametrize(
    ("turns", "read_as"),
    [
        ({"messages": [message("user", "Halo?"), message("assistant", "Ya.")]}, "openai"),
        ({"conversations": [message("user", "Halo?"), message("assistant", "Ya.")]}, "sharegpt"),
    ],
)
def test_a_conversation_that_ends_with_an_answer_is_none(
    file: Path, turns: dict[str, object], read_as: str
) -> None:
    written(file, [{**turns, "chosen": "a", "rejected": "b"}])
    assert [each.read_as for each in detect_formats(file, "sft")] == [read_as]


def test_a_named_format_is_taken_where_a_record_may_be_two_things(file: Path) -> None:
    both = {"prompt": "Halo?", **IN_BOTH, "messages": IN_BOTH["chosen"]}
    named = DataFile(written(file, [both]), "data", "openai")
    assert [each.read_as for each in detect_formats([named], "sft")] == ["openai"]
    assert [each.read_as for each in detect_formats(file, "dpo")] == ["preferences"]
    with pytest.raises(DataError, match="not in the format that is named"):
        detect_formats([DataFile(written(file, [pair()]), "data", "openai")])


def test_a_system_message_reaches_the_model_in_every_form() -> None:
    system = [message("system", "Jawab singkat."), message("user", "Halo?")]
    found = parse_preference({"prompt": system, **ASSISTANT}, 1)
    assert isinstance(found, Preference)
    assert found.rejected_conversation().system == "Jawab singkat."
    assert [place for place, _ in found.texts()][-2:] == ["turn 3", "rejected"]


@pytest.mark.parametrize("form", FORMS)
def test_a_training_on_conversations_refuses_pairs_and_says_what_to_set(
    file: Path, form: str
) -> None:
    written(file, [{"id": "a", **FORMS[form]}])
    with pytest.raises(DataError, match=r"pairs of a chosen[\s\S]*method: dpo"):
        check_conversations(file)
    check_conversations(file, "dpo")
    (looked,) = detect_formats(file)
    assert looked.read_as == "preferences"


def test_a_training_on_pairs_refuses_conversations_and_says_what_to_set(file: Path) -> None:
    conversation = {"id": "a", "conversations": TWO_TURNS, "chosen": 1, "rejected": 2}
    written(file, [conversation])
    with pytest.raises(DataError, match=r"not preferences[\s\S]*method: sft"):
        check_conversations(file, "dpo")
    check_conversations(file)
    (looked,) = detect_formats(file)
    assert looked.read_as == "fastchat"


def test_pairs_of_which_none_can_be_used_are_refused(file: Path) -> None:
    written(file, [pair(chosen="")])
    with pytest.raises(DataError, match=r"no preference in[\s\S]*data check"):
        check_conversations(file, "dpo")


def test_each_rule_of_a_conversation_holds_for_both_answers(file: Path, encoder: Encoder) -> None:
    records = [
        pair("baik"),
        pair("surel", rejected=f"{WORSE} Tulis ke budi@gmail.com"),
        pair("tanda", rejected=f"{WORSE} </s>"),
        pair("panjang", rejected=f"{WORSE} {'tidak ' * 300}"),
        pair("baik"),
    ]
    bad = list[BadRecord]()
    found = screen(written(file, records), RULES, encoder=encoder, on_bad=bad.append)
    assert [(each.id, each.fault) for each in bad] == [
        ("surel", RecordFault.PERSONAL_DATA),
        ("tanda", RecordFault.MARK_IN_TEXT),
        ("panjang", RecordFault.TOO_LONG),
        ("baik", RecordFault.DUPLICATE),
    ]
    assert "rejected holds" in bad[0].reason
    assert "rejected holds </s>" in bad[1].reason
    assert "not both answers fit whole" in bad[2].reason
    assert [each.id for _, each in found.conversations()] == ["baik"]


def test_other_answers_to_the_same_words_are_no_duplicates(file: Path) -> None:
    records = [pair(), pair(rejected=f"{WORSE} Maaf."), pair(chosen=f"{BETTER} Semoga laris.")]
    assert screen(written(file, records), RULES).kept == 3


def test_what_a_pair_learns_are_the_tokens_of_its_two_answers(encoder: Encoder) -> None:
    turns = (Turn("human", "Halo?"), Turn("gpt", "Ya, Bu?"), Turn("human", "Laba?"))
    record = Preference("a", (*turns, Turn("gpt", "Jual, Bu.")), None, "Tidak tahu.")
    (both,) = encoded(encoder, [record])
    assert isinstance(both, tuple)
    said = []
    for example in both:
        learned = [label for label in example.labels if label != IGNORED]
        said.append(encoder.tokenizer.decode(learned).strip())
    # As the template ends an answer; the one before is not learned again.
    assert said == ["Jual, Bu.</s>", "Tidak tahu.</s>"]
    whole = encoder.encode(record.rejected_conversation())
    assert both[1].input_ids == whole.input_ids


def test_all_answers_to_one_question_stand_on_one_side() -> None:
    sides = set()
    for number in range(40):
        turns = (Turn("human", "Halo?"), Turn("gpt", f"Ya {number}."))
        sides.add(is_validation(Preference("a", turns, None, "Tidak."), 0.5))
    assert len(sides) == 1


SETTINGS = Finetune(method="dpo", validation_share=0.3, max_length_tokens=1024, language=None)


def test_an_error_counts_pairs_and_not_their_answers(file: Path, tmp_path: Path) -> None:
    written(file, (pair(str(i)) for i in range(3)))
    tiny_tokenizer().save_pretrained(tmp_path / "model")
    all_apart = SETTINGS.model_copy(update={"validation_share": 0.999})
    with pytest.raises(DataError, match="all 3 usable"):
        prepare_examples(tmp_path / "model", file, all_apart, TEMPLATE, out=tmp_path)


def test_prepared_pairs_are_read_as_pairs_and_never_as_conversations(
    file: Path, tmp_path: Path
) -> None:
    written(file, (pair(str(i)) for i in range(12)))
    tiny_tokenizer().save_pretrained(tmp_path / "model")
    out = tmp_path / "out"
    out.mkdir()
    made = prepare_examples(tmp_path / "model", file, SETTINGS, TEMPLATE, out=out)
    assert made.validation is not None
    training, validation = PairFile(made.examples), PairFile(made.validation)
    assert len(training) + len(validation) == 12
    assert made.counts.examples == len(training)
    assert made.counts.tokens == sum(ExampleFile(made.examples).lengths)
    one = training[0]
    assert training.lengths[0] == max(len(one["input_ids"]), len(one["rejected_input_ids"]))
    as_conversations = SETTINGS.model_copy(update={"method": "sft"})
    with pytest.raises(DataError, match="method: dpo"):
        read_prepared(out, as_conversations, TEMPLATE)


def test_a_source_that_counts_twice_keeps_both_answers_of_a_pair_side_by_side(
    file: Path, tmp_path: Path
) -> None:
    written(file, (pair(str(i)) for i in range(6)))
    tiny_tokenizer().save_pretrained(tmp_path / "model")
    found = []
    for weight in (1.0, 2.0):
        out = tmp_path / str(weight)
        out.mkdir()
        data = [DataFile(file, "pairs", weight=weight)]
        settings = SETTINGS.model_copy(update={"validation_share": 0.0})
        made = prepare_examples(tmp_path / "model", data, settings, TEMPLATE, out=out)
        pairs = PairFile(made.examples)
        assert made.counts.examples == len(pairs)
        found.append([tuple(map(bytes, _answers(pairs[i]))) for i in range(len(pairs))])
    assert found[1] == found[0] * 2


def _answers(sides: dict[str, Any]) -> list[Any]:
    names = ("labels", "rejected_labels")
    return [[label % 256 for label in sides[n].tolist() if label != IGNORED] for n in names]


def test_of_what_was_collected_the_preferences_are_taken(tmp_path: Path) -> None:
    written(tmp_path / "preferences.jsonl", [pair()])
    written(tmp_path / "conversations.jsonl", [{"id": "a", "conversations": TWO_TURNS}])
    settings = Finetune(data=[{"collected": "warung"}], method="dpo")
    (source,) = settings.data
    (taken,) = local_files(settings.data, {str(source): tmp_path}, settings.method)
    assert taken.path.name == "preferences.jsonl"


def test_a_held_out_conversation_is_found_among_preferred_answers(tmp_path: Path) -> None:
    pairs = written(tmp_path / "pairs.jsonl", [pair("a"), pair("b")])
    record = pair("a")
    turns = [*record["conversations"], {"from": "gpt", "value": record["chosen"]}]
    held_out = written(tmp_path / "held.jsonl", [{"id": "h", "conversations": turns}])
    leaks = find_leaks(pairs, held_out).first(None)
    assert (leaks.exact, leaks.first[0].training_id) == (1, "a")


def test_a_pair_counts_with_the_length_of_both_its_sides(tmp_path: Path) -> None:
    pairs = written(tmp_path / "pairs.jsonl", [pair()])
    (_, record), *_ = scan(pairs)
    assert isinstance(record, Preference)
    sides = [record.chosen_conversation(), record.rejected_conversation()]
    alone = [lengths_of(_alone(tmp_path, side), cut=2048) for side in sides]
    both = lengths_of(pairs, cut=2048)
    assert both is not None
    assert both.conversations == 1
    assert both.tokens == sum(each.tokens for each in alone if each)


def _alone(directory: Path, conversation: Conversation) -> Path:
    turns = [{"from": turn.speaker, "value": turn.text} for turn in conversation.turns]
    return written(directory / "alone.jsonl", [{"id": "a", "conversations": turns}])


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.just("\ud800"),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["role", "content", "from", "value", "user", "assistant"]), inner
        )
    ),
    max_leaves=8,
)
ANY_RECORD = st.fixed_dictionaries(
    {},
    optional=dict.fromkeys(
        ("id", "conversations", "prompt", "chosen", "rejected", "system"), ANY_JSON
    ),
)


@given(ANY_RECORD | ANY_JSON, st.booleans())
def test_whatever_stands_in_a_record_it_is_a_preference_or_named(raw: object, merge: bool) -> None:
    is_preference(raw)
    found = parse_preference(raw, 1, merge_neighbours=merge)
    if isinstance(found, BadRecord):
        str(found).encode()
    else:
        assert found.turns[-1].speaker == "gpt"
        assert found.rejected not in ("", found.turns[-1].text)
        for _, text in found.texts():
            text.encode()
