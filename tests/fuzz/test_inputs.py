"""Whatever is wrong with one file, a command says what: never a traceback, never a hang.

A small share of the cases runs with every `make test`; `make fuzz` runs ten thousand.
"""

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer
from typer.main import get_command

from flows.cli import app
from tasks.core.errors import KawanUsahaError
from tests.fuzz.mutations import EXAMPLES, Mutation, mutations
from tests.machines import AVX2
from tests.models import WORDS, tiny_delta, tiny_llama

FEW = 25

COMMANDS = {
    "inspect": (("model",), ["inspect", "model"]),
    "download": (("model",), ["download", "model", "out"]),
    "edit": (("model",), ["edit", "model", "out", "--activation", "gelu"]),
    "merge": (("base", "delta"), ["merge", "base", "delta", "out"]),
    "fuse": (("base", "adapter"), ["fuse", "base", "adapter", "out"]),
    "finetune": (
        ("model", "data"),
        ["finetune", "model", "data/conversation.json", "out", "--dry-run", "--device", "cpu"],
    ),
    "tokenizer": (
        ("model",),
        ["data", "check", "data/conversation.json", "--tokenizer", "model"],
    ),
    "conversations": (("data",), ["data", "check", "data/conversation.json"]),
    "conversations as lines": (("data",), ["data", "check", "data/lines.jsonl"]),
    "formats in a directory": (("chats",), ["data", "check", "chats"]),
    "show": (
        ("data",),
        ["data", "show", "data/conversation.json", "--record", "1", "--tokenizer", "model"],
    ),
}
"""Which directories a command is given, of which one is changed, and its words."""


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directories that every command takes as they are."""
    root = tmp_path_factory.mktemp("whole")
    tiny_llama(root / "model", seed=1, layers=2, sharded=True, hidden=16)
    tiny_llama(root / "base", seed=2, layers=2, hidden=16)
    tiny_delta(root / "base", tiny_llama(root / "target", layers=2, hidden=16), root / "delta")
    config = LoraConfig(
        r=2,
        target_modules=["q_proj", "down_proj"],
        rank_pattern={"down_proj": 4},
        task_type="CAUSAL_LM",
    )
    base = AutoModelForCausalLM.from_pretrained(root / "base")
    get_peft_model(base, config).save_pretrained(root / "adapter")
    (root / "adapter" / "README.md").unlink()
    records = [
        {
            "id": str(n),
            "conversations": [
                {"from": "human", "value": f"{WORDS[n]} {WORDS[n + 1]}?"},
                {"from": "gpt", "value": f"{WORDS[n + 2]} {n}."},
            ],
        }
        for n in range(12)
    ]
    (root / "data").mkdir()
    (root / "data" / "conversation.json").write_text(json.dumps(records))
    (root / "data" / "lines.jsonl").write_text("\n".join(map(json.dumps, records)))
    (root / "chats").mkdir()
    openai = [{"messages": turns("role", "content", n)} for n in range(3)]
    sharegpt = [{"items": turns("from", "value", n), "system": ""} for n in range(3, 6)]
    (root / "chats" / "a.jsonl").write_text("\n".join(map(json.dumps, openai)))
    (root / "chats" / "b.json").write_text(json.dumps(sharegpt))
    return root


def turns(speaker: str, text: str, number: int) -> list[dict[str, str]]:
    """Return a question and its answer in fields of these names."""
    said = {"user": f"{WORDS[number]} {WORDS[number + 1]}?", "assistant": f"{WORDS[number + 2]}."}
    return [{speaker: who, text: what} for who, what in said.items()]


@pytest.fixture(autouse=True)
def _without_what_takes_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    """The proof of an edit and the machine's speed: both have tests of their own."""

    class Proof:
        fingerprint = None

        def as_json(self) -> dict[str, object]:
            return {}

        def table(self) -> str:
            return ""

    monkeypatch.setattr("flows.actions.edit.prove_edit", lambda *_, **__: Proof())
    monkeypatch.setattr("tasks.core.machine.hardware.measured_cpu_speed", lambda _: AVX2)


@pytest.mark.parametrize("command", COMMANDS)
def test_directories_that_are_whole_are_taken(command: str, whole: Path) -> None:
    with given_to(command, whole, None) as code:
        assert code == 0


@pytest.mark.parametrize("command", COMMANDS)
def test_whatever_is_wrong_with_a_file_is_explained(command: str, whole: Path) -> None:
    directories, _ = COMMANDS[command]
    wrong = st.sampled_from(directories).flatmap(
        lambda name: mutations(whole / name).map(lambda mutation: (name, mutation))
    )

    @settings(
        max_examples=EXAMPLES or FEW,
        suppress_health_check=list(HealthCheck),
    )
    @given(wrong)
    def explained(drawn: tuple[str, Mutation]) -> None:
        note(f"{drawn[0]}/{drawn[1]}")
        with given_to(command, whole, drawn) as code:
            assert code in (0, 1, 2)
            if code:
                assert not Path("out").exists(), "an output that looks whole was left behind"
            elif Path("out").is_dir():
                require_loads(Path("out"), without=drawn[1].file)

    explained()


def require_loads(model: Path, *, without: str) -> None:
    """Load what a command called whole, but for a part that the next stage looks at.

    A tokenizer may be missing, and a value of a configuration is tried when the model is built.
    """
    if without in ("config.json", "generation_config.json"):
        return
    if (model / "tokenizer.json").is_file():
        AutoTokenizer.from_pretrained(model)
    AutoModelForCausalLM.from_pretrained(model, trust_remote_code=True)


@contextmanager
def given_to(command: str, whole: Path, wrong: tuple[str, Mutation] | None) -> Iterator[int]:
    """Yield the exit code of a command in a directory of its own."""
    names, words = COMMANDS[command]
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as place:
        for name in {*names, "model", "data"}:
            shutil.copytree(whole / name, Path(place, name))
        if wrong is not None:
            wrong[1].apply(Path(place, wrong[0]))
        os.chdir(place)
        try:
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("KAWAN_USAHA_HOME", str(Path(place, "home")))
                yield exit_code(words)
        finally:
            os.chdir(before)


@cache
def _made_command() -> Callable[..., object]:
    """Return what the app makes of itself at each call: a fifth of what a command takes here."""
    made: Callable[..., object] = get_command(app)
    return made


def exit_code(words: list[str]) -> int:
    """Run the command in this process, as `kawan-usaha` does; what is not explained is raised."""
    try:
        _made_command()(words, standalone_mode=True)
    except KawanUsahaError as error:
        note(str(error))
        assert str(error).strip()
        return error.exit_code
    except SystemExit as end:
        return int(end.code or 0)
    raise AssertionError("a command ends with an exit code")
