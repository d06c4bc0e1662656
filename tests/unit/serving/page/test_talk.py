"""A talk in the terminal goes on beyond the model's context: a real gateway before a real model."""

import pytest

from tasks.core.errors import ServingFailed, UsageError
from tasks.core.serving.client.chat import Busy, Talk, TooLong
from tests.unit.serving.gateway.world import CONTEXT, MODEL_NAME, Gateway, free_port
from tests.unit.serving.page.world import Scripted


class Terminal:
    """What a person sees beside the answers."""

    def __init__(self, url: str, **options: object) -> None:
        self.lines: list[str] = []
        # Greedy: a drawn answer may end at its first token.
        options = {"temperature": 0, "max_tokens": 16} | options
        self.talk = Talk(f"{url}/v1", MODEL_NAME, self.lines.append, **options)

    def ask(self, question: str) -> str:
        return "".join(self.talk.ask(question))


def prompt_lengths(engine) -> list[int]:
    return [len(body["prompt"]) for body in engine.state()["asked"]]


def test_a_talk_beyond_the_context_drops_its_oldest_turns_says_so_and_goes_on(gateway, engine):
    terminal = Terminal(gateway.url, system="Jawab singkat.")
    for number in range(4):  # one token a character: two of these fit beside each other, not three
        assert terminal.ask(f"{number}" * 800)
    assert (
        terminal.lines
        == ["(The oldest question and its answer are left out: the model's context is full.)"] * 2
    )
    assert max(prompt_lengths(engine)) < CONTEXT


def test_the_system_message_is_never_dropped(gateway, engine, model_text):
    terminal = Terminal(gateway.url, system="Jawab singkat.")
    terminal.ask("satu " * 250)
    terminal.ask("dua " * 300)
    engine.state()
    assert terminal.ask("tiga")
    text = model_text(engine.state()["asked"][-1]["prompt"])
    assert text.startswith("Jawab singkat. USER: dua")


def test_only_a_question_that_is_too_long_alone_is_refused_and_the_talk_goes_on(gateway):
    terminal = Terminal(gateway.url)
    with pytest.raises(TooLong) as refused:
        terminal.ask("a" * CONTEXT)
    assert refused.value.next_step == "Use fewer words, or ask in several parts."
    assert "kawan-usaha chat" not in str(refused.value)
    assert terminal.ask("apa kabar")


def test_a_question_without_an_answer_is_as_if_it_was_never_asked(scripted: Scripted):
    terminal = Terminal(scripted.url)
    scripted.answers({"text": "busy", "status": 429, "retry_after": "7"}, "baik")
    scripted.state()
    with pytest.raises(Busy, match="Ask again in 7 s"):
        terminal.ask("satu")
    assert terminal.ask("dua") == "baik "
    assert [len(body["messages"]) for body in scripted.state()["asked"]] == [1, 1]


def test_an_answer_that_breaks_off_is_told_as_such(scripted: Scripted):
    scripted.answers({"text": "saya kira", "breaks": True})
    pieces = []
    with pytest.raises(ServingFailed, match="cut off"):
        pieces.extend(Terminal(scripted.url).talk.ask("satu"))


def test_a_missing_key_is_told_with_the_variable_that_holds_it(tmp_path, engine, monkeypatch):
    from tests.unit.serving.gateway.world import a_route

    key = "rahasia-dapur-12345"
    route = a_route(engine.log.parent / "model", [engine.url])
    gateway = Gateway(tmp_path, route, env={"KAWAN_USAHA_API_KEYS": f"kami:{key}"})
    try:
        with pytest.raises(UsageError, match="KAWAN_USAHA_API_KEY"):
            Terminal(gateway.url).ask("satu")
        monkeypatch.setenv("KAWAN_USAHA_API_KEY", key)
        assert Terminal(gateway.url).ask("satu")
    finally:
        gateway.end()


def test_a_server_that_is_down_is_told(tmp_path):
    with pytest.raises(ServingFailed, match="cannot be reached"):
        Terminal(f"http://127.0.0.1:{free_port()}").ask("satu")
