"""`kawan-usaha chat` of a deployment on record, whose gateway is scripted.

Its page is tested with the page's process: `test_middleware`.
"""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.command_line import Run
from tests.unit.serving.page.world import Scripted


@pytest.fixture
def chat(
    run: Run, monkeypatch: pytest.MonkeyPatch, home: Path, tmp_path: Path
) -> Callable[..., tuple[int, str, str]]:
    """Run the command with what is typed, and return exit code, output and errors."""
    monkeypatch.setenv("KAWAN_USAHA_HOME", str(home))

    def one(*words: str, typed: str = "") -> tuple[int, str, str]:
        file = tmp_path / "typed"
        file.write_text(typed)
        with file.open() as given:
            monkeypatch.setattr("sys.stdin", given)
            return run("chat", *words)

    return one


def test_a_question_that_is_too_long_does_not_end_the_talk(chat: Run, scripted: Scripted):
    too_long = {"text": "x", "status": 400, "code": "context_length_exceeded"}
    scripted.answers("baik", too_long, too_long, "lagi")
    code, out, err = chat(typed="satu\ndua panjang\ntiga\n")
    assert code == 0
    assert "baik" in out
    assert "lagi" in out
    assert "oldest question and its answer are left out" in err
    assert "This question alone is longer than the model's context. Use fewer words" in err


def test_a_busy_server_does_not_end_the_talk(chat: Run, scripted: Scripted):
    scripted.answers({"text": "x", "status": 429, "retry_after": "3"}, "baik")
    code, out, err = chat(typed="satu\ndua\n")
    assert code == 0
    assert "baik" in out
    assert "Ask again in 3 s." in err


def test_a_page_that_cannot_listen_is_told(chat: Run, scripted: Scripted):
    code, _, err = chat("--web", "--port", str(scripted.port))
    assert code == 1
    assert "The page cannot listen at its address." in err
    assert "Traceback" not in err


def test_an_address_that_is_none_is_refused(chat: Run):
    code, _, err = chat("--web", "--host", "localhost")
    assert code == 2
    assert "These options do not fit together." in err
