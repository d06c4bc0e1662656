"""Which processes serve a model, and with which arguments. Pure.

Covers FastChat's three processes on one machine. It starts nothing and reads nothing but its
arguments, so that a plan can be shown and tested. No secret can get into an argument list: the
recipe has no field that holds one.
"""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tasks.core.errors import RecipeError
from tasks.core.recipe import Deploy, Dtype
from tasks.core.serving.report import EXPECTATION_VARIABLE

_PACKAGE_ROOT = Path(__file__).resolve().parents[3]
_MODULE = "tasks.core.serving.launcher"

_HEART_BEAT_S = 10  # FastChat's 45 s are how long a restarted controller would know no worker.
_FIRST_TOKEN_S = 600  # FastChat's 100 s are too few for a long prompt on a CPU.


@dataclass(frozen=True)
class Endpoints:
    """The addresses of the three processes, without a path."""

    controller: str
    worker: str
    api: str


@dataclass(frozen=True)
class ProcessSpec:
    """A process to be kept running. The lowest priority starts first and is stopped last."""

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str]
    cwd: Path
    priority: int


def ports_of(deploy: Deploy) -> dict[str, int]:
    """Return the port of each process."""
    return {
        "controller": deploy.controller_port,
        "worker": deploy.worker_port,
        "api": deploy.api_port,
    }


def endpoints_of(deploy: Deploy) -> Endpoints:
    """Return the address of each process."""
    host = f"[{deploy.host}]" if ":" in deploy.host else deploy.host
    return Endpoints(**{name: f"http://{host}:{port}" for name, port in ports_of(deploy).items()})


def plan_processes(
    deploy: Deploy,
    *,
    template: str,
    model: Path,
    modules: Path,
    expectation: Path,
    cpu_dtype: Dtype = "float32",
) -> tuple[ProcessSpec, ...]:
    """Return controller, worker and API server, in the order in which they start.

    model must lie under a name that no FastChat adapter claims; the worker sees nothing but that
    name, because its working directory is the parent. modules is the deployment's own cache for
    the model's code, expectation the file that the worker proves itself against, cpu_dtype what it
    computes in on a CPU.
    Raises RecipeError for settings that FastChat would silently not follow.
    """
    if deploy.load_8bit and deploy.gpus > 1:
        raise RecipeError(
            "FastChat cannot spread 8-bit weights over several GPUs; it would load 16 bits.",
            where="deploy",
            expected="load_8bit: false, or gpus: 1",
            found=f"load_8bit: true, gpus: {deploy.gpus}",
        )
    urls = endpoints_of(deploy)
    common = _environment(deploy, modules=modules)
    worker_env = {**common, EXPECTATION_VARIABLE: str(expectation)}
    plans = (
        ("controller", _controller_arguments(), common),
        ("worker", _worker_arguments(deploy, urls, template, model.name, cpu_dtype), worker_env),
        ("api", _api_arguments(urls), common),
    )
    ports = ports_of(deploy)
    return tuple(
        ProcessSpec(
            name=name,
            argv=(*_python(name), "--host", deploy.host, "--port", str(ports[name]), *arguments),
            env=env,
            cwd=model.parent,
            priority=priority,
        )
        for priority, (name, arguments, env) in enumerate(plans, start=1)
    )


def _python(role: str) -> tuple[str, ...]:
    # -P: a `torch.py` in the working directory must not be imported in place of torch.
    return (sys.executable, "-P", "-m", _MODULE, role)


def _controller_arguments() -> tuple[str, ...]:
    return ("--dispatch-method", "shortest_queue")


def _worker_arguments(
    deploy: Deploy, urls: Endpoints, template: str, model_name: str, cpu_dtype: Dtype
) -> tuple[str, ...]:
    arguments = [
        *("--worker-address", urls.worker),
        *("--controller-address", urls.controller),
        *("--model-path", model_name),
        *("--model-names", deploy.model_name),
        # Without it FastChat guesses from the path, and ends at `one_shot`.
        *("--conv-template", template),
        *("--device", deploy.device),
    ]
    if deploy.device == "cuda":
        arguments += ["--num-gpus", str(deploy.gpus)]
    else:
        arguments += ["--dtype", cpu_dtype]  # FastChat itself asks for Intel's extension of torch
    if deploy.load_8bit:
        arguments.append("--load-8bit")
    return tuple(arguments)


def _api_arguments(urls: Endpoints) -> tuple[str, ...]:
    # FastChat lets every web page call it from the user's browser; nobody here needs that.
    return ("--controller-address", urls.controller, "--allowed-origins", "[]")


def _environment(deploy: Deploy, *, modules: Path) -> dict[str, str]:
    env = {
        "PYTHONPATH": str(_PACKAGE_ROOT),
        "PYTHONUNBUFFERED": "1",
        "HF_HUB_OFFLINE": "1",
        "HF_MODULES_CACHE": str(modules),
        "TOKENIZERS_PARALLELISM": "false",
        # Empty: no log files of FastChat's own, which grow without limit; supervisord has the logs.
        "LOGDIR": "",
        "FASTCHAT_WORKER_API_TIMEOUT": str(_FIRST_TOKEN_S),
        "FASTCHAT_WORKER_HEART_BEAT_INTERVAL": str(_HEART_BEAT_S),
    }
    if deploy.device == "cpu":
        env["CUDA_VISIBLE_DEVICES"] = ""
    return env
