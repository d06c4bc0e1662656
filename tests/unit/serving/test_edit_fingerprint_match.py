"""What tells an edited model from its twin by what it answers, in each type."""

import json
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest
import torch
from transformers import AutoModelForCausalLM

from tasks.core.architecture.edit import edit_model
from tasks.core.architecture.proof.whole_model import prompt_token_logprobs
from tasks.core.architecture.renew_edit_fingerprint import renew_fingerprint
from tasks.core.errors import EditLost, ServingFailed
from tasks.core.model.edit_fingerprint import EditFingerprint, read_fingerprint
from tasks.core.recipe import ActivationEdit, Edit
from tasks.core.serving.client.access import Access
from tasks.core.serving.proof.edit_fingerprint_match import TOLERANCES, require_fingerprint
from tasks.core.serving.proof.prompt_logprobs import ask_prompt
from tests.models import tiny_llama

EDIT = Edit(activations=(ActivationEdit(layers=("all",), activation="gelu"),))
HERE = "http://127.0.0.1:1"
NAN = float("nan")


def _made(edited: tuple[float, ...], unedited: tuple[float, ...]) -> EditFingerprint:
    ids = tuple(range(len(edited) + 1))
    return EditFingerprint(
        prompt_ids=ids, edited=edited, unedited=unedited, dtype="float32", versions={}
    )


TWO = _made((-1.0, -2.0, -3.0), (-1.2, -2.2, -3.2))
"""Two models that are 0.2 apart."""


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory, preforked_children: None) -> Path:
    """A plain tiny model, and the edited one with its fingerprint."""
    root = tmp_path_factory.mktemp("models")
    tiny_llama(root / "plain", dtype="float32")
    (root / "edited").mkdir()
    edit_model(root / "plain", EDIT, root / "edited")
    renew_fingerprint(root / "edited")
    return root


@pytest.fixture(scope="module")
def fingerprint(models: Path) -> EditFingerprint:
    found = read_fingerprint(models / "edited")
    assert found is not None
    return found


def _answers(model: Path, fingerprint: EditFingerprint, dtype: torch.dtype) -> tuple[float, ...]:
    loaded = AutoModelForCausalLM.from_pretrained(model, trust_remote_code=True, dtype=dtype)
    return prompt_token_logprobs(loaded.eval(), torch.tensor([fingerprint.prompt_ids]))


def test_model_that_lost_its_edit_is_told(models: Path, fingerprint: EditFingerprint) -> None:
    answers = _answers(models / "plain", fingerprint, torch.float32)
    with pytest.raises(EditLost, match="like the one without the edit"):
        require_fingerprint(fingerprint, answers, dtype="float32", where=HERE)


def test_model_that_is_within_the_tolerance_but_unedited_is_told() -> None:
    """Two models 0.2 apart, in a type that rounds by 0.3: the nearer one counts."""
    with pytest.raises(EditLost, match="like the one without the edit"):
        require_fingerprint(TWO, (-1.2, -2.2, -3.2), dtype="bfloat16", where=HERE)


def test_another_model_is_near_to_neither() -> None:
    with pytest.raises(EditLost, match="neither like the edited model nor like its twin"):
        require_fingerprint(TWO, (-4.0, -5.0, -6.0), dtype="float16", where=HERE)


def test_answer_that_is_no_number_is_near_to_neither() -> None:
    with pytest.raises(EditLost, match="neither"):
        require_fingerprint(TWO, (-1.0, NAN, -3.0), dtype="float32", where=HERE)


def test_answer_to_another_prompt_is_no_match() -> None:
    with pytest.raises(EditLost, match="different prompt"):
        require_fingerprint(TWO, (-1.0, -2.0), dtype="float32", where=HERE)


def test_type_without_a_tolerance_is_refused() -> None:
    with pytest.raises(ServingFailed, match="rounding error of this type"):
        require_fingerprint(TWO, TWO.edited, dtype="int3", where=HERE)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
def test_edited_model_is_alive_in_its_own_type_and_in_16_bits(
    models: Path, fingerprint: EditFingerprint, dtype: torch.dtype
) -> None:
    answers = _answers(models / "edited", fingerprint, dtype)
    name = str(dtype).removeprefix("torch.")
    match = require_fingerprint(fingerprint, answers, dtype=name, where=HERE)
    assert match.verdict == "alive"
    assert match.to_edited < match.to_unedited / 2


def test_edit_that_shows_in_no_answer_cannot_be_told_and_is_no_failure() -> None:
    dead = _made((-1.0, -2.0, -3.0), (-1.0, -2.0, -3.0 - 1e-7))
    for answer in (dead.edited, dead.unedited, (-1.0, -2.0, -3.0001)):
        match = require_fingerprint(dead, answer, dtype="float32", where=HERE)
        assert match.verdict == "cannot tell"
        assert "too close together" in str(match)


def test_what_lies_between_the_two_cannot_be_told() -> None:
    match = require_fingerprint(TWO, (-1.1, -2.1, -3.1), dtype="int8", where=HERE)
    assert match.verdict == "cannot tell"


def test_fingerprint_in_16_bits_makes_the_tolerance_theirs() -> None:
    coarse = TWO.model_copy(update={"dtype": "float16"})
    match = require_fingerprint(coarse, (-1.0, -2.0, -3.01), dtype="float32", where=HERE)
    assert match.tolerance == TOLERANCES["float16"]


# --- asking ---------------------------------------------------------------------------------


@pytest.fixture
def server() -> Iterator[Callable[[int, str], tuple[str, list[dict[str, object]]]]]:
    """Return a maker of servers that answer each request alike, with what they were asked."""
    running: list[HTTPServer] = []

    def start(status: int, body: str) -> tuple[str, list[dict[str, object]]]:
        asked: list[dict[str, object]] = []

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                size = int(self.headers["Content-Length"])
                said = json.loads(self.rfile.read(size))
                asked.append({**said, "authorization": self.headers.get("Authorization")})
                self.send_response(status)
                self.end_headers()
                self.wfile.write(body.encode())

            def log_message(self, *_: object) -> None:
                pass

        http = HTTPServer(("127.0.0.1", 0), Handler)
        running.append(http)
        Thread(target=http.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{http.server_port}", asked

    yield start
    for http in running:
        http.shutdown()
        http.server_close()


def _event(**members: object) -> str:
    return f"data: {json.dumps(members)}\n\n"


CHOICE = {
    "index": 0,
    "text": "a",
    "prompt_logprobs": [None, {"7": {"logprob": -1.5, "rank": 3}}, {"9": {"logprob": -2.5}}],
}


def test_log_probabilities_are_read_from_the_first_chunk_of_a_stream(server) -> None:
    usage = _event(choices=[], usage={"prompt_tokens": 3})
    url, asked = server(200, f"{_event(choices=[CHOICE])}{usage}data: [DONE]\n\n")
    access = Access(key="t")
    assert ask_prompt(url, "m", (5, 7, 9), access=access).logprobs == (-1.5, -2.5)
    (request,) = asked
    assert request["prompt"] == [5, 7, 9]
    assert (request["prompt_logprobs"], request["max_tokens"]) == (0, 1)
    assert request["authorization"] == "Bearer t"


def test_log_probabilities_are_read_from_an_answer_that_is_no_stream(server) -> None:
    url, asked = server(200, json.dumps({"choices": [CHOICE]}))
    assert ask_prompt(url, "m", (5, 7, 9)).logprobs == (-1.5, -2.5)
    assert not {"stream", "stream_options"} & asked[0].keys()


@pytest.mark.parametrize(
    ("status", "body", "what"),
    [
        (503, '{"error": {"message": "full"}}', "503"),
        (200, "<html>", "is an error"),
        (200, _event(error={"message": "out of memory"}), "out of memory"),
        (200, _event(choices=[{"index": 0, "text": "a"}]), "no log-probabilities of the prompt"),
        (200, _event(choices=[{**CHOICE, "prompt_logprobs": [None, {"8": {"logprob": 0}}]}]), "no"),
    ],
    ids=["full", "another server", "error in the stream", "none", "of other tokens"],
)
def test_answer_without_them_is_an_error_that_says_so(server, status, body, what) -> None:
    url, _ = server(status, body)
    with pytest.raises(ServingFailed, match=what):
        ask_prompt(url, "m", (5, 7, 9))


def test_server_that_is_not_there_is_an_error_that_says_so() -> None:
    with pytest.raises(ServingFailed, match="No connection"):
        ask_prompt(HERE, "m", (5, 7, 9))
