"""From the end of a log to its cause, with lines as the libraries write them."""

import traceback

import pytest
from fastchat.conversation import get_conv_template

from tasks.core.errors import EditLost, PortTaken, ServingFailed
from tasks.core.serving.launch.causes import explain_end, log_tail
from tasks.core.serving.proof.readiness import refusal_json
from tasks.core.serving.state.directory import StateDirectory


@pytest.fixture
def state(tmp_path) -> StateDirectory:
    (tmp_path / "logs").mkdir()
    (tmp_path / "blue").mkdir()
    return StateDirectory(tmp_path)


def ended(state: StateDirectory, how: str, log: str = "") -> None:
    line = f"2026-11-24 03:34:17,001 WARN exited: blue ({how}; not expected)\n"
    state.log_of("supervisord").write_text("INFO spawned: 'blue' with pid 7\n" + line)
    state.log_of("blue").write_text(log)


@pytest.mark.parametrize(
    ("log", "error", "words"),
    [
        ("[Errno 98] error while attempting to bind: address already in use", PortTaken, "port"),
        ("torch.OutOfMemoryError: CUDA out of memory. Tried to", ServingFailed, "GPU"),
        ("AssertionError: Torch not compiled with CUDA enabled", ServingFailed, "no GPU"),
        ("KeyError: 'lm_head.weight'", ServingFailed, "ties"),
        ("safetensors_rust.SafetensorError: Error while deserializing", ServingFailed, "weights"),
        ("ValueError: something new", ServingFailed, "exited while it was starting"),
    ],
)
def test_the_end_of_the_log_gives_the_cause_and_is_shown(state, log, error, words):
    ended(state, "exit status 1", log)
    found = explain_end(state, "blue", oom_kills=0, load_8bit=False)
    assert type(found) is error
    assert words in found.what
    assert log in str(found.found)


@pytest.mark.parametrize("load_8bit", [True, False])
@pytest.mark.parametrize(
    ("how", "log", "kills"),
    [("exit status 1", "torch.OutOfMemoryError: CUDA out of memory", 0), ("SIGKILL", "", 1)],
)
def test_halving_the_weights_is_advised_only_where_they_are_not_halved(
    state, how, log, kills, load_8bit
):
    ended(state, how, log)
    found = explain_end(state, "blue", oom_kills=kills, load_8bit=load_8bit)
    assert ("--load-8bit" in found.next_step) != load_8bit
    assert "<" not in found.next_step


def test_a_template_that_fastchat_does_not_know_is_named(state):
    try:
        get_conv_template("kawan_v0")
    except KeyError:
        ended(state, "exit status 1", traceback.format_exc())
    assert (
        "no conversation template" in explain_end(state, "blue", oom_kills=0, load_8bit=False).what
    )


def test_a_kill_is_blamed_on_memory_only_if_the_kernel_counted_one(state):
    ended(state, "terminated by SIGKILL", "loading")
    assert "memory ran out" in explain_end(state, "blue", oom_kills=1, load_8bit=False).what
    by_hand = explain_end(state, "blue", oom_kills=0, load_8bit=False)
    assert "memory" not in by_hand.what
    assert "terminated by SIGKILL" in str(by_hand.found)


def test_a_refusal_is_the_error_that_the_worker_left(state):
    lost = EditLost("lost", expected="gelu", found="silu")
    state.slot("blue").refusal.write_text(refusal_json(lost))
    ended(state, "exit status 78")
    found = explain_end(state, "blue", oom_kills=0, load_8bit=False)
    assert type(found) is EditLost
    assert found.as_dict() == lost.as_dict()


def test_a_refusal_of_an_earlier_start_is_not_taken_for_this_end(state):
    state.slot("blue").refusal.write_text(refusal_json(EditLost("lost")))
    ended(state, "exit status 1")
    assert type(explain_end(state, "blue", oom_kills=0, load_8bit=False)) is ServingFailed


def test_the_tail_is_short_and_without_progress_bars(state):
    lines = [f"line {i}" for i in range(1000)]
    ended(state, "exit status 1", "\n".join([*lines, "Loading weights:  50%|###   | 1/2", "end"]))
    tail = log_tail(state, "blue").splitlines()
    assert len(tail) == 25
    assert tail[-2:] == ["line 999", "end"]


def test_a_process_without_a_log_has_an_empty_tail(state):
    assert log_tail(state, "api") == ""
