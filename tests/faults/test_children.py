"""What the system refuses in a process that a stage starts is told as in the stage itself."""

import errno
import os
from pathlib import Path

import pytest

from tasks.core.architecture.proof.edit_proof import prove_edit
from tasks.core.architecture.proof.fresh_process import ask_fresh_process
from tasks.core.errors import DiskFull, EditLost, KawanUsahaError, NotAModel, SystemRefused
from tasks.core.files.foreign import understood
from tasks.core.training.entry import _in_words
from tasks.explain import explained
from tests.faults.fresh_failure import Question
from tests.unit.architecture.conftest import GELU_IN_THE_LAST


def ask(wrong: str) -> bytes | None:
    return ask_fresh_process(
        "tests.faults.fresh_failure",
        Question(wrong=wrong),
        model=Path("/models/one"),
        timeout_s=600,
        log=None,
    )


@pytest.mark.slow
@pytest.mark.parametrize("wrong", ["memory", "torch's memory"])
def test_a_proof_without_memory_is_known_for_one(wrong: str) -> None:
    assert ask(wrong) is None


def test_a_proof_without_memory_even_for_the_layers_blames_no_edit(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(
        "tasks.core.architecture.proof.edit_proof.ask_fresh_process", lambda *_, **__: None
    )
    with pytest.raises(SystemRefused, match="too little memory to prove"):
        prove_edit(Path("/models/one"), GELU_IN_THE_LAST)
    assert "only its edited layers are proven" in caplog.text


@pytest.mark.slow
@pytest.mark.parametrize(("wrong", "kind"), [("EIO", SystemRefused), ("ENOSPC", DiskFull)])
def test_what_the_system_refuses_a_proof_is_no_lost_edit(
    wrong: str, kind: type[KawanUsahaError]
) -> None:
    with pytest.raises(kind) as told:
        ask(wrong)
    assert told.value.where == "/models/one"
    assert told.value.next_step


@pytest.mark.slow
def test_a_bug_in_a_proof_is_none_of_the_systems() -> None:
    with pytest.raises(EditLost, match="ZeroDivisionError"):
        ask("a bug")


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.EIO, os.strerror(errno.EIO)),
        OSError(errno.EMFILE, os.strerror(errno.EMFILE)),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: 9"),
        RuntimeError("can't start new thread"),
        Exception("Error while reading: Input/output error (os error 5)"),
    ],
    ids=str,
)
def test_what_the_system_refuses_a_library_is_no_fault_of_the_model(error: Exception) -> None:
    with pytest.raises(type(error)) as raised, understood("the model", "/models/one"):
        raise error
    assert isinstance(explained(raised.value), SystemRefused)


@pytest.mark.parametrize("error", [FileNotFoundError(errno.ENOENT, "no"), OSError("no such thing")])
def test_what_is_wrong_with_the_files_stays_the_models(error: Exception) -> None:
    with pytest.raises(NotAModel), understood("the model", "/models/one"):
        raise error


def test_a_training_says_what_the_systems_refusal_means() -> None:
    words = _in_words(OSError(errno.EIO, os.strerror(errno.EIO), "/data/examples"))
    assert words.startswith("OSError: [Errno 5]")
    assert "where: /data/examples" in words
    assert "dmesg" in words
    assert _in_words(ZeroDivisionError("by zero")) == "ZeroDivisionError: by zero"
