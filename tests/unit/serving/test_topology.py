"""The plan of the processes: what FastChat must and must not be told."""

from pathlib import Path

import pytest
from fastchat.model.model_adapter import BaseModelAdapter, VicunaAdapter, get_model_adapter

from tasks.core.errors import RecipeError
from tasks.core.recipe import Deploy, Dtype
from tasks.core.serving.state import StateDirectory
from tasks.core.serving.topology import ProcessSpec, endpoints_of, plan_processes


def plan(
    deploy: Deploy, root: Path = Path("/srv/kawan"), *, cpu_dtype: Dtype = "float32"
) -> dict[str, ProcessSpec]:
    state = StateDirectory(root)
    specs = plan_processes(
        deploy,
        template="vicuna_v1.1",
        model=state.model,
        modules=state.modules,
        expectation=state.expectation,
        cpu_dtype=cpu_dtype,
    )
    return {spec.name: spec for spec in specs}


def option(spec: ProcessSpec, name: str) -> str:
    return spec.argv[spec.argv.index(name) + 1]


def test_8_bit_over_several_gpus_is_refused_because_fastchat_would_load_16():
    with pytest.raises(RecipeError, match="8-bit"):
        plan(Deploy(load_8bit=True, gpus=2))


def test_the_worker_sees_no_part_of_a_path_that_would_choose_an_adapter():
    worker = plan(Deploy(), Path("/models/vicuna-peft"))["worker"]
    assert option(worker, "--model-path") == "model"
    assert worker.cwd == Path("/models/vicuna-peft")


def test_the_neutral_name_gets_the_adapter_that_trusts_the_models_code():
    assert type(get_model_adapter("model")) is BaseModelAdapter


def test_a_path_with_vicuna_still_gets_the_adapter_that_drops_the_edit():
    assert type(get_model_adapter("/models/vicuna/model")) is VicunaAdapter


def test_the_template_is_always_named():
    assert option(plan(Deploy())["worker"], "--conv-template") == "vicuna_v1.1"


def test_the_processes_start_from_the_one_that_the_others_ask():
    specs = sorted(plan(Deploy()).values(), key=lambda spec: spec.priority)
    assert [spec.name for spec in specs] == ["controller", "worker", "api"]


def test_every_process_listens_on_loopback_alone():
    assert {option(spec, "--host") for spec in plan(Deploy()).values()} == {"127.0.0.1"}


def test_an_ipv6_address_stands_in_brackets_in_addresses_and_bare_as_a_host():
    deploy = Deploy(host="::1")
    assert endpoints_of(deploy).worker == "http://[::1]:21002"
    assert option(plan(deploy)["worker"], "--host") == "::1"


def test_a_gpu_worker_is_told_the_number_of_gpus_and_the_precision():
    worker = plan(Deploy(load_8bit=False, gpus=2))["worker"]
    assert option(worker, "--num-gpus") == "2"
    assert "--load-8bit" not in worker.argv
    assert "--load-8bit" in plan(Deploy())["worker"].argv


def test_a_cpu_worker_sees_no_gpu():
    worker = plan(Deploy(device="cpu"))["worker"]
    assert option(worker, "--device") == "cpu"
    assert worker.env["CUDA_VISIBLE_DEVICES"] == ""


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_cpu_worker_is_told_the_type_that_the_cpu_is_fast_in(dtype):
    worker = plan(Deploy(device="cpu", load_8bit=False), cpu_dtype=dtype)["worker"]
    assert option(worker, "--dtype") == dtype


def test_a_gpu_worker_keeps_fastchats_own_type():
    assert "--dtype" not in plan(Deploy())["worker"].argv


def test_no_web_page_may_call_the_server_from_a_browser():
    assert option(plan(Deploy())["api"], "--allowed-origins") == "[]"
