"""What is learned of collected answers: the accepted ones, and nothing that nobody has read."""

import json

import pytest

from tasks.core.collected.review import reviewed_set as reviewed
from tasks.core.collected.review.reviewed_set import reviewed_set
from tests.collected import BUDI, Kept
from tests.conversations import load_conversations


@pytest.fixture
def kept(tmp_path):
    return Kept(tmp_path / "collected")


@pytest.fixture
def nothing_held_out(monkeypatch):
    monkeypatch.setattr(reviewed, "HELD_OUT_SHARE", 0.0)


def said(conversation):
    return [turn.text for turn in conversation.turns]


def test_nothing_that_nobody_has_reviewed_is_anywhere_in_the_set(kept):
    kept.answer("a", "Rahasia satu?", "Rahasia dua.", rated="up", correction="Rahasia tiga.")
    kept.answer("b", "Boleh?", "Boleh.")
    kept.review("b")
    assert b"Rahasia" not in b"".join(reviewed_set(kept.directory).files().values())


def test_a_rejected_answer_is_learned_nowhere(kept):
    kept.answer("a", "Bisa?", "Ya.", rated="up", correction="Tentu.")
    kept.review("a", "reject")
    found = reviewed_set(kept.directory)
    assert (found.conversations, found.held_out, found.preferences) == ((), (), ())
    assert found.reviews["a"].decision == "reject"


def test_a_review_of_another_persons_answer_counts_for_nothing(kept):
    kept.answer("a", "Bisa?", "Ya.")
    kept.review("a", person=BUDI)
    assert reviewed_set(kept.directory).reviews == {}


def test_the_latest_decision_counts(kept):
    kept.answer("a", "Bisa?", "Ya.")
    kept.review("a")
    kept.review("a", "reject")
    assert reviewed_set(kept.directory).conversations == ()


@pytest.mark.usefixtures("nothing_held_out")
def test_a_conversation_with_a_rejected_earlier_answer_is_left_out_and_named(kept):
    kept.answer("a", "Satu?", "Buruk.")
    kept.answer("b", "Satu?", "Buruk.", "Dua?", "Baik.")
    kept.review("a", "reject")
    kept.review("b")
    found = reviewed_set(kept.directory)
    assert found.conversations == ()
    assert [each.id for each in found.left_out] == ["b"]


@pytest.mark.parametrize(
    "before", [("system:Kamu ramah.",), ("Satu?", "Ya.", "")], ids=["no question", "empty one"]
)
def test_what_is_no_conversation_to_learn_from_is_left_out_and_named(kept, before):
    kept.answer("a", *before, "Baik.")
    kept.review("a")
    found = reviewed_set(kept.directory)
    assert [each.id for each in found.left_out] == ["a"]
    assert found.conversations == ()


@pytest.mark.usefixtures("nothing_held_out")
def test_an_edit_is_learned_in_place_of_what_was_served_and_preferred_to_it(kept):
    kept.answer("a", "system:Kamu ramah.", "Bisa?", "Ya.")
    kept.review("a", answer="Tentu bisa.")
    found = reviewed_set(kept.directory)
    (learned,) = found.conversations
    assert (learned.system, said(learned)) == ("Kamu ramah.", ["Bisa?", "Tentu bisa."])
    (pair,) = found.preferences
    assert (pair.chosen, pair.rejected) == ("Tentu bisa.", "Ya.")
    assert [turn.text for turn in pair.turns] == ["Bisa?"]
    assert pair.system == "Kamu ramah."


@pytest.mark.usefixtures("nothing_held_out")
def test_the_edit_of_an_earlier_answer_holds_in_the_longer_conversation(kept):
    kept.answer("a", "Satu?", "Jelek.")
    kept.answer("b", "Satu?", "Jelek.", "Dua?", "Baik.")
    kept.review("a", answer="Bagus.")
    kept.review("b")
    found = reviewed_set(kept.directory)
    assert [said(each) for each in found.conversations] == [["Satu?", "Bagus.", "Dua?", "Baik."]]
    assert [pair.rejected for pair in found.preferences] == ["Jelek."]


@pytest.mark.usefixtures("nothing_held_out")
def test_no_answer_is_learned_twice_because_the_conversation_went_on(kept):
    kept.answer("a", "Satu?", "Ya.")
    kept.answer("b", "Satu?", "Ya.", "Dua?", "Juga.")
    kept.answer("c", "Satu?", "Ya.", person=BUDI)
    kept.answer("d", "Satu?", "Lain.")
    for name, person in (("a", None), ("b", None), ("c", BUDI), ("d", None)):
        kept.review(name, **({"person": person} if person else {}))
    assert [each.id for each in reviewed_set(kept.directory).conversations] == ["b", "d"]


@pytest.mark.usefixtures("nothing_held_out")
def test_a_good_and_a_bad_answer_to_the_same_question_are_a_pair(kept):
    kept.answer("good", "Bisa?", "Ya, begini caranya.", rated="up")
    kept.answer("bad", "Bisa?", "Entah.", rated="down", person=BUDI)
    kept.answer("unread", "Bisa?", "Ngawur.", rated="down")
    kept.answer("rejected", "Bisa?", "Kacau.", rated="down")
    kept.review("good")
    kept.review("bad", answer="Bisa, asal dicatat.", person=BUDI)
    kept.review("rejected", "reject")
    pairs = reviewed_set(kept.directory).preferences
    assert [(pair.chosen, pair.rejected) for pair in pairs] == [
        ("Bisa, asal dicatat.", "Entah."),
        ("Ya, begini caranya.", "Entah."),
    ]


@pytest.mark.usefixtures("nothing_held_out")
def test_what_a_reviewer_found_good_as_it_was_is_never_the_worse_one(kept):
    kept.answer("good", "Bisa?", "Ya, begini caranya.", rated="up")
    kept.answer("disliked", "Bisa?", "Tidak.", rated="down")
    kept.review("good")
    kept.review("disliked")
    assert reviewed_set(kept.directory).preferences == ()


@pytest.fixture
def held_out_questions(monkeypatch):
    """Conversations that begin with a question of these words are held out, and no others."""
    monkeypatch.setattr(reviewed, "is_held_out", lambda turns, _: turns[0].text.startswith("Ukur"))


def test_an_opening_question_stands_on_one_side_whatever_the_system_message(kept):
    for number in range(40):
        kept.answer(f"a{number}", f"system:Peran {number}.", "Apa itu NIB?", f"Nomor {number}.")
        kept.review(f"a{number}")
    found = reviewed_set(kept.directory)
    assert not (found.conversations and found.held_out)


@pytest.mark.usefixtures("held_out_questions")
def test_an_answer_that_is_held_out_is_learned_in_no_other_conversation(kept):
    kept.answer("measured", "Ukur ini?", "Halo.", "Apa itu NIB?", "Nomor induk.")
    kept.answer("same", "Mulai?", "Ya.", "Apa itu NIB?", "Nomor induk.")
    kept.answer("other", "Mulai?", "Ya.", "Apa itu NPWP?", "Nomor pajak.")
    for name in ("measured", "same", "other"):
        kept.review(name)
    found = reviewed_set(kept.directory)
    assert [each.id for each in found.conversations] == ["other"]
    assert [each.id for each in found.left_out] == ["same"]


@pytest.mark.usefixtures("held_out_questions")
@pytest.mark.parametrize("answer", ["Salah.", "Nomor induk."])
def test_a_preference_over_an_answer_that_is_held_out_is_not_learned(kept, answer):
    kept.answer("measured", "Ukur ini?", "Halo.", "Apa itu NIB?", answer)
    kept.answer("pair", "Apa itu NIB?", "Salah.")
    kept.review("measured")
    kept.review("pair", answer="Nomor induk.")
    found = reviewed_set(kept.directory)
    assert found.preferences == ()


def test_what_begins_with_the_same_question_stands_on_the_same_side(kept):
    for number in range(60):
        question = f"Pertanyaan {number}?"
        kept.answer(f"a{number}", question, "Satu.", rated="up")
        kept.answer(f"b{number}", question, "Dua.", "Lalu?", "Tiga.")
        kept.review(f"a{number}", answer="Satu, lebih baik.")
        kept.review(f"b{number}")
    found = reviewed_set(kept.directory)
    learned = {said(each)[0] for each in found.conversations}
    held_out = {said(each)[0] for each in found.held_out}
    assert len(learned) + len(held_out) == 60
    assert 3 <= len(held_out) <= 25
    assert {pair.turns[0].text for pair in found.preferences} == learned


def test_a_new_review_moves_no_conversation_to_the_other_side(kept):
    for number in range(30):
        kept.answer(f"a{number}", f"Pertanyaan {number}?", "Satu.")
        kept.review(f"a{number}")
    before = {each.id for each in reviewed_set(kept.directory).held_out}
    for number in range(30, 40):
        kept.answer(f"a{number}", f"Pertanyaan {number}?", "Satu.")
        kept.review(f"a{number}")
    after = {each.id for each in reviewed_set(kept.directory).held_out}
    assert {name for name in after if int(name[1:]) < 30} == before


def test_the_bytes_depend_on_the_decisions_and_not_on_the_order_of_the_lines(tmp_path):
    one, other = Kept(tmp_path / "one"), Kept(tmp_path / "other")
    for kept, order in ((one, (0, 1, 2)), (other, (2, 0, 1))):
        for number in range(3):
            kept.answer(f"a{number}", f"Pertanyaan {number}?", "Satu.", rated="down")
        for number in order:
            kept.review(f"a{number}", answer=f"Suntingan {number}.")
    assert reviewed_set(one.directory).files() == reviewed_set(other.directory).files()


def test_the_files_are_read_as_what_they_are_and_say_who_decided_without_a_text(kept, tmp_path):
    for number in range(12):
        kept.answer(f"a{number}", "system:Ramah.", f"Pertanyaan {number}?", "Kata.", rated="up")
        kept.review(f"a{number}", answer="Kata-kata.")
    found = reviewed_set(kept.directory)
    files = found.files()
    for name, wanted in (
        (reviewed.REVIEWED_CONVERSATIONS, found.conversations),
        (reviewed.HELD_OUT, found.held_out),
    ):
        (tmp_path / name).write_bytes(files[name])
        assert wanted
        assert load_conversations(tmp_path / name) == wanted
    reviews = json.loads(files[reviewed.DECISIONS_FILE])
    assert reviews["a0"] == {
        "reviewer": "rina",
        "time": "2026-11-30T12:00:00+00:00",
        "decision": "accept",
        "rating": "up",
    }
    assert b"Kata" not in files[reviewed.DECISIONS_FILE]
