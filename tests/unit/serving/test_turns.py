"""Which turns go when a conversation is longer than the model can read."""

from tasks.core.serving.client.turns import ChatMessage, has_room, without_oldest


def said(*words: str) -> list[ChatMessage]:
    roles = {"s": "system", "u": "user", "a": "assistant"}
    return [{"role": roles[each[0]], "content": each} for each in words]


def test_the_oldest_question_goes_with_its_answer():
    assert without_oldest(said("u1", "a1", "u2", "a2", "u3")) == said("u2", "a2", "u3")


def test_a_system_message_stays_wherever_it_stands():
    assert without_oldest(said("s1", "u1", "a1", "u2")) == said("s1", "u2")
    assert without_oldest(said("u1", "s2", "a1", "u2")) == said("s2", "u2")


def test_the_last_question_is_never_left_out():
    assert without_oldest(said("s1", "u1")) is None
    assert without_oldest(said("a0", "u1", "a1")) is None


def test_an_answer_without_a_question_goes_with_the_oldest():
    assert without_oldest(said("a0", "u1", "a1", "u2")) == said("u2")


def test_a_server_that_knows_no_such_question_has_room():
    assert has_room({"prompts": [{"fits": False}]}) is False
    assert has_room({"prompts": [{"fits": True}]}) is True
    assert has_room({"detail": "Not Found"}) is True
