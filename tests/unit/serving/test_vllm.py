"""How vLLM is started and refused: what can be said without it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tasks.core.errors import EditLost, NotAModel, RecipeError, ServingFailed
from tasks.core.machine import devices
from tasks.core.model.edit_fingerprint import EditFingerprint
from tasks.core.process.ports import free_port
from tasks.core.recipe.deploy import Deploy
from tasks.core.serving.engines.base import Launch
from tasks.core.serving.engines.vllm import Vllm
from tasks.core.serving.engines.vllm_command import VllmArguments, drain_s, setup_of, vllm_command
from tasks.core.serving.engines.vllm_environment import EXTRA_ARGUMENTS, VARIABLE
from tasks.core.serving.engines.vllm_process import server_environment
from tasks.core.serving.proof.readiness import (
    EXPECTATION_VARIABLE,
    REFUSED,
    Expectation,
    refusal_from,
)
from tests.models import tiny_llama

CONFIG = {
    "model_type": "kawan_usaha_llama",
    "num_hidden_layers": 2,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "vocab_size": 320,
    "max_position_embeddings": 2048,
    "rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 10000.0},
    "dtype": "float16",
}


@pytest.fixture
def python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An environment that looks as if it had vLLM; its Python says what it is called with."""
    root = tmp_path / "environment"
    (root / "lib" / "python3.11" / "site-packages" / "vllm").mkdir(parents=True)
    (root / "bin").mkdir()
    python = root / "bin" / "python"
    python.write_text('#!/bin/sh\necho "$@"\necho "PYTHONPATH=$PYTHONPATH" "PATH=$PATH"\n')
    python.chmod(0o755)
    monkeypatch.setenv(VARIABLE, str(python))
    monkeypatch.delenv(EXTRA_ARGUMENTS, raising=False)
    return python


def _launch(root: Path, **settings: object) -> Launch:
    deploy = Deploy.model_validate({"engine": "vllm", **settings})
    return Launch(deploy, "vicuna_v1.1", root / "model", 8123, "float32")


def _command(root: Path, config: dict[str, object] = CONFIG, **settings: object) -> list[str]:
    spec = Vllm().process(_launch(root, **settings))
    arguments = VllmArguments.model_validate_json(spec.argv[spec.argv.index("--settings") + 1])
    return list(vllm_command(arguments, setup_of(arguments, config, "build-1"), config))


def _option(command: list[str], name: str) -> str:
    return command[command.index(name) + 1]


def test_without_vllm_the_way_to_get_it_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "bin" / "python"))
    for attempt in (Vllm().check, lambda settings: Vllm().process(_launch(tmp_path))):
        with pytest.raises(RecipeError, match="make vllm"):
            attempt(Deploy(engine="vllm"))


def test_a_python_without_vllm_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, sys.executable)
    with pytest.raises(RecipeError, match="no environment with vLLM"):
        Vllm().check(Deploy(engine="vllm"))


def test_8_bits_on_a_cpu_are_refused_by_name(python: Path) -> None:
    with pytest.raises(RecipeError, match=r"deploy\.load_8bit"):
        Vllm().check(Deploy(engine="vllm", device="cpu", load_8bit=True))
    Vllm().check(Deploy(engine="vllm", device="cuda", load_8bit=True))
    Vllm().check(Deploy(engine="vllm", device="cpu", load_8bit=False))


def test_configuration_without_a_context_is_refused(python: Path, tmp_path: Path) -> None:
    config = {k: v for k, v in CONFIG.items() if k != "max_position_embeddings"}
    with pytest.raises(NotAModel, match="how many tokens"):
        _command(tmp_path, config)


def test_the_whole_command_on_a_cpu(python: Path, tmp_path: Path) -> None:
    command = _command(tmp_path, device="cpu", load_8bit=False)
    setup = (
        '{"build":"build-1","device":"cpu","dtype":"float32","rounds_like":"float32",'
        '"context_tokens":4096}'
    )
    assert command == [
        *(str(python), "-P", "-s", "-u", "-m", "vllm.entrypoints.openai.api_server"),
        *("--host", "127.0.0.1", "--port", "8123"),
        *("--middleware", "kawan_usaha_gate.ProofGate"),
        *("--model", "model", "--served-model-name", "Kawan-Usaha"),
        *("--model-impl", "transformers", "--trust-remote-code"),
        *("--dtype", "float32", "--max-model-len", "4096"),
        *("--generation-config", "vllm"),
        *("--max-num-seqs", "32", "--max-num-queued-reqs", "96"),
        *("--shutdown-timeout", "60"),
        *("--fingerprint-mode", "custom", "--fingerprint-value", setup),
        *("--no-enable-log-requests", "--disable-uvicorn-access-log", "--disable-fastapi-docs"),
        # keys and values x layers x width x (32 requests of 1024 tokens + 33 blocks) x bytes
        *("--kv-cache-memory-bytes", str(2 * 2 * 32 * (32 * 1024 + 33 * 128) * 4)),
    ]


def test_on_gpus_it_is_spread_and_leaves_room_for_the_one_that_follows(
    python: Path, tmp_path: Path
) -> None:
    command = _command(tmp_path, gpus=2, load_8bit=False)
    assert _option(command, "--tensor-parallel-size") == "2"
    assert _option(command, "--gpu-memory-utilization") == "0.45"
    assert _option(command, "--dtype") == "float16"
    assert "--quantization" not in command
    alone = _command(tmp_path, switch="replace", load_8bit=False)
    assert _option(alone, "--gpu-memory-utilization") == "0.9"


def test_8_bits_on_a_gpu_are_fp8_and_round_like_it(python: Path, tmp_path: Path) -> None:
    command = _command(tmp_path, {**CONFIG, "dtype": "bfloat16"}, load_8bit=True)
    assert _option(command, "--quantization") == "fp8_per_tensor"
    assert _option(command, "--dtype") == "bfloat16"
    assert json.loads(_option(command, "--fingerprint-value"))["rounds_like"] == "fp8"


def test_a_cpu_holds_at_least_one_whole_context(python: Path, tmp_path: Path) -> None:
    few = {"max_running": 1, "max_queued": 0}
    command = _command(tmp_path, device="cpu", load_8bit=False, gateway=few)
    assert _option(command, "--kv-cache-memory-bytes") == str(2 * 2 * 32 * (4096 + 2 * 128) * 4)


def test_the_last_answers_always_get_some_time() -> None:
    """0 would leave open streams without an error or an end."""
    assert [drain_s(0), drain_s(20), drain_s(3600)] == [1, 20, 60]
    assert Vllm.stop_wait_s > drain_s(3600)
    assert not Vllm.stops_as_group


def test_further_arguments_come_last(
    python: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(EXTRA_ARGUMENTS, "--enforce-eager --dtype 'bfloat16'")
    assert _command(tmp_path)[-3:] == ["--enforce-eager", "--dtype", "bfloat16"]


def test_the_process_tells_nobody_and_fetches_nothing(python: Path, tmp_path: Path) -> None:
    spec = Vllm().process(_launch(tmp_path, device="cpu", load_8bit=False))
    wanted = {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", "HF_HUB_OFFLINE": "1"}
    assert wanted.items() <= spec.env.items()
    assert spec.env["HF_MODULES_CACHE"] == str(tmp_path / "modules")
    assert spec.env["CUDA_VISIBLE_DEVICES"] == ""


def test_vllm_finds_its_own_programs_first_and_nothing_of_ours_but_the_gate() -> None:
    ours = {"PYTHONPATH": "/ours", "VIRTUAL_ENV": "/ours", "PATH": "/ours/bin:/bin", "HOME": "/h"}
    found = server_environment(ours, Path("/vllm/bin/python"))
    gate = Path(found.pop("PYTHONPATH"))
    assert found == {"PATH": "/vllm/bin:/ours/bin:/bin", "HOME": "/h"}
    assert [path.stem for path in gate.glob("*.py")] == ["kawan_usaha_gate"]


def test_what_tells_the_deployment_stands_behind_what_a_title_clears() -> None:
    ours = {"KAWAN_USAHA_SERVING": "/home/serving", "PATH": "/bin", "A": "a"}
    assert list(server_environment(ours, Path("/vllm/bin/python")))[-1] == "KAWAN_USAHA_SERVING"


# --- the process, up to the moment when it becomes vLLM ----------------------------------------


def _run(root: Path, expectation: Expectation) -> subprocess.CompletedProcess[str]:
    if not (root / "model").exists():
        tiny_llama(root / "model")
    launch = _launch(root, device="cpu", load_8bit=False)
    launch.expectation.write_text(expectation.model_dump_json())
    spec = Vllm().process(launch)
    env = {**os.environ, **spec.env, devices.SERVED_FROM: devices.served_from("cpu", None)}
    return subprocess.run(
        spec.argv, env=env, cwd=spec.cwd, capture_output=True, text=True, check=False
    )


def _expectation(*, edit: bool, fingerprint: bool = False) -> Expectation:
    two = EditFingerprint(
        prompt_ids=(1, 2), edited=(-1.0,), unedited=(-2.0,), dtype="float32", versions={}
    )
    return Expectation(
        build="build-1",
        template="vicuna_v1.1",
        edit={"alive": True} if edit else None,
        fingerprint=two if fingerprint else None,
    )


def test_edited_model_without_a_fingerprint_is_refused_before_vllm_starts(
    python: Path, tmp_path: Path
) -> None:
    ended = _run(tmp_path, _expectation(edit=True))
    assert ended.returncode == REFUSED
    error = refusal_from((tmp_path / "refusal.json").read_text())
    assert isinstance(error, EditLost)
    assert "has no fingerprint" in error.what
    assert "kawan-usaha edit" in str(error.next_step)
    with pytest.raises(EditLost, match="has no fingerprint"):
        Vllm().prove("http://127.0.0.1:1", _expectation(edit=True))


@pytest.mark.parametrize(
    "expectation",
    [_expectation(edit=False), _expectation(edit=True, fingerprint=True)],
    ids=["plain", "edited"],
)
def test_any_other_model_becomes_vllm_which_sees_no_path_of_ours(
    python: Path, tmp_path: Path, expectation: Expectation
) -> None:
    ended = _run(tmp_path, expectation)
    said = ended.stdout.splitlines()
    assert ended.returncode == 0
    assert said[0].startswith("-P -s -u -m vllm.entrypoints.openai.api_server --host 127.0.0.1")
    assert f"/inside_vllm PATH={python.parent}:" in said[1]


def test_what_a_killed_server_has_left_is_ended_before_another_starts(
    python: Path, tmp_path: Path
) -> None:
    """vLLM's engine outlives its server, with the memory; supervisord starts the server again."""
    env = {**os.environ, EXPECTATION_VARIABLE: str(tmp_path / "expectation.json")}
    with subprocess.Popen(["sleep", "600"], env=env, start_new_session=True) as left:
        ended = _run(tmp_path, _expectation(edit=False))
        assert ended.returncode == 0
        assert left.wait(timeout=1) != 0


def test_server_that_does_not_answer_is_not_ready() -> None:
    port = free_port()
    with pytest.raises(ServingFailed, match="No connection"):
        Vllm().ready(f"http://127.0.0.1:{port}")
