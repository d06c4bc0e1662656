"""What a deployment gives to one client and to many, beside FastChat started by hand.

    python -m tests.benchmarks.bench_serving --seconds 60 --picture docs/pictures/serving.png

The demo's model (SmolLM2-135M, its last layer edited) on the CPU, one server after the other on the
same cores: FastChat by hand, then this deployment on each engine, each asked by 1, 8 and 32 clients
(locust) for so many seconds. `generate` is transformers' own, without a server, for one client. The
row `gateway` asks the same engine directly and through the gateway in turn. Figures are compared
within one run only.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import torch

from tasks.core.architecture.edit import edit_model
from tasks.core.architecture.promise import expected_report
from tasks.core.architecture.renew_edit_fingerprint import renew_fingerprint
from tasks.core.home import PROJECT
from tasks.core.machine.cpu import compute_dtype, read_cpu
from tasks.core.process.ports import free_port
from tasks.core.recipe import ActivationEdit, Edit
from tasks.core.recipe.deploy import Deploy
from tasks.core.serving.launch.deployment import deploy
from tasks.core.serving.launch.ending import stop
from tasks.core.serving.state.record import Deployment
from tasks.core.serving.supervision.processes import own_processes
from tests.benchmarks.demo_model import save_demo_model
from tests.benchmarks.fastchat_by_hand import by_hand
from tests.benchmarks.load_record import answers, percentiles, tokens_per_s
from tests.benchmarks.serving_chart import draw

MODEL, TEMPLATE = "Kawan-Usaha", "Yi-34b-chat"
TOKENS = 64
_START_S = 1200.0


@dataclass(frozen=True)
class Row:
    """One server under one load. Times are in seconds, at the median, the 95th and the 99th."""

    server: str
    clients: int
    tokens_per_s: float
    first_token_s: tuple[float, float, float]
    answer_s: tuple[float, float, float]
    answers: int
    errors: int
    resident_bytes: int

    def __str__(self) -> str:
        """Return it as a row of a table in Markdown."""
        first = " / ".join(f"{s:.2f}" for s in self.first_token_s)
        answer = " / ".join(f"{s:.1f}" for s in self.answer_s)
        cells = (self.server, self.clients, f"{self.tokens_per_s:.1f}", first, answer)
        return (
            "| "
            + " | ".join(
                map(str, (*cells, self.answers, self.errors, f"{self.resident_bytes / 1e9:.2f} GB"))
            )
            + " |"
        )


@dataclass(frozen=True)
class Load:
    """Who asks which server, for how long."""

    url: str
    model: Path
    clients: int
    seconds: int


HEAD = """\
| server | clients | tokens/s | first token, s (p50 / p95 / p99) | answer, s | answers | errors | memory |
|---|---:|---:|---|---|---:|---:|---:|"""  # noqa: E501 - a row of Markdown


def main() -> None:
    """Print a row a server and load, then what the gateway adds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--engines", nargs="+", default=["fastchat", "transformers", "vllm"])
    parser.add_argument("--no-peer", action="store_true", help="without FastChat by hand")
    parser.add_argument("--turns", type=int, default=20, help="answers with and without gateway")
    parser.add_argument("--soak", type=int, default=0, help="seconds with the most clients, last")
    parser.add_argument("--picture", type=Path)
    chosen = parser.parse_args()
    rows: list[Row] = []

    def told(row: Row) -> None:
        rows.append(row)
        print(row, flush=True)

    with tempfile.TemporaryDirectory(prefix="kawan-usaha-serving-") as name:
        root = Path(name)
        os.environ["KAWAN_USAHA_LOCKS"] = str(root / "locks")
        model = _model(root)
        print(HEAD, flush=True)
        told(_generate(model))
        if not chosen.no_peer:
            dtype = compute_dtype("float16", read_cpu())
            with by_hand(model, MODEL, TEMPLATE, root / "by_hand.log", dtype) as url:
                _wait(url)
                for clients in chosen.clients:
                    load = Load(url, model, clients, chosen.seconds)
                    told(_ask("FastChat by hand", load, _children))
        for engine in chosen.engines:
            with _deployed(root, model, engine) as deployment:
                for clients in chosen.clients:
                    load = Load(deployment.url, model, clients, chosen.seconds)
                    told(_ask(f"this deployment, {engine}", load, _memory_of(deployment)))
                print(_gateway(deployment, chosen.turns), flush=True)
                if chosen.soak and engine == chosen.engines[0]:
                    load = Load(deployment.url, model, max(chosen.clients), chosen.soak)
                    soak = _ask(f"{engine}, {chosen.soak} s", load, _memory_of(deployment))
                    print(soak, flush=True)
    if chosen.picture:
        draw(rows, chosen.picture)


def _model(root: Path) -> Path:
    plain = save_demo_model(root / "plain")
    (edited := root / "edited").mkdir()
    activations = (ActivationEdit(layers=(-1,), activation="gelu"),)
    edit_model(plain, Edit(activations=activations), edited)
    renew_fingerprint(edited)
    return edited


@contextmanager
def _deployed(root: Path, model: Path, engine: str) -> Iterator[Deployment]:
    settings = Deploy.model_validate(
        {
            "model_name": MODEL,
            "engine": engine,
            "device": "cpu",
            "load_8bit": False,
            "gateway": {"port": free_port()},
        }
    )
    home = root / f"home-{engine}"
    deployment = deploy(
        model,
        settings,
        name="bench",
        template=TEMPLATE,
        home=home,
        build="bench",
        expected_edit=expected_report(model),
    )
    try:
        yield deployment
    finally:
        stop(home, "bench")


def _ask(server: str, load: Load, memory: Callable[[], int]) -> Row:
    """Ask the server, and return what its clients saw."""
    with tempfile.TemporaryDirectory(prefix="kawan-usaha-load-") as name:
        record = Path(name) / "answers.jsonl"
        command = [
            *(sys.executable, "-m", "locust", "-f", "tests/benchmarks/load.py", "--headless"),
            *("--host", load.url, "-t", f"{load.seconds}s"),
            *("-u", str(load.clients), "-r", str(load.clients)),
            *("--stop-timeout", "300", "--only-summary", "--exit-code-on-error", "0"),
        ]
        env = {
            **os.environ,
            "LOAD_MODEL": MODEL,
            "LOAD_TOKENIZER": str(load.model),
            "LOAD_TOKENS": str(TOKENS),
            "LOAD_RECORD": str(record),
            "NO_PROXY": "*",
        }
        subprocess.run(command, cwd=PROJECT, env=env, capture_output=True, text=True, check=True)
        found = answers(record)
    whole = [each for each in found if each.problem is None]
    first = [each.first_token_s - each.began_s for each in whole if each.first_token_s is not None]
    return Row(
        server=server,
        clients=load.clients,
        tokens_per_s=tokens_per_s(found),
        first_token_s=percentiles(first),
        answer_s=percentiles([each.ended_s - each.began_s for each in whole]),
        answers=len(whole),
        errors=len(found) - len(whole),
        resident_bytes=memory(),
    )


def _generate(model: Path) -> Row:
    """Return what transformers' generate gives to one client, without any server."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model, trust_remote_code=True)
    dtype = getattr(torch, compute_dtype("float16", read_cpu()))
    loaded = AutoModelForCausalLM.from_pretrained(model, dtype=dtype, trust_remote_code=True)
    prompt = tokenizer("Tell a long story about a small shop.", return_tensors="pt")
    seconds, tokens = [], 0
    for _ in range(6):
        began = time.perf_counter()
        answer = loaded.generate(
            **prompt, max_new_tokens=TOKENS, min_new_tokens=TOKENS, do_sample=True
        )
        seconds.append(time.perf_counter() - began)
        tokens += answer.shape[1] - prompt.input_ids.shape[1]
    kept = seconds[1:]
    middle = statistics.median(kept)
    return Row(
        "`generate`, no server",
        1,
        tokens / len(seconds) / middle,
        (0.0, 0.0, 0.0),
        (middle, max(kept), max(kept)),
        len(kept),
        0,
        psutil.Process().memory_info().rss,
    )


def _gateway(deployment: Deployment, times: int) -> str:
    """Return what the gateway adds to one client's answer, asked in turn with the engine itself."""
    ids = list(range(20, 60))
    body = {
        "model": MODEL,
        "prompt": ids,
        "max_tokens": TOKENS,
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    urls = {"engine": deployment.engine_url, "gateway": deployment.url}
    took: dict[str, list[float]] = {name: [] for name in urls}
    with httpx.Client(trust_env=False, timeout=600) as client:
        for _ in range(times):
            for name, url in urls.items():
                began = time.perf_counter()
                client.post(f"{url}/v1/completions", json=body).raise_for_status()
                took[name].append(time.perf_counter() - began)
    engine, gateway = (statistics.median(took[name]) for name in urls)
    return (
        f"gateway before {deployment.settings.engine}: {gateway / engine:.3f} x the engine alone, "
        f"{(gateway - engine) / TOKENS * 1000:.2f} ms a token ({times} answers each, in turn)"
    )


def _wait(url: str) -> None:
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline:
        try:
            offered = httpx.get(f"{url}/v1/models", trust_env=False, timeout=60).json()["data"]
            if offered:
                return
        except (httpx.HTTPError, ValueError, KeyError):
            pass
        time.sleep(1.0)
    raise TimeoutError(url)


def _children() -> int:
    return _resident(psutil.Process().children(recursive=True))


def _memory_of(deployment: Deployment) -> Callable[[], int]:
    return lambda: _resident([each.process for each in own_processes(deployment.state)])


def _resident(processes: Sequence[psutil.Process]) -> int:
    total = 0
    for process in processes:
        try:
            total += process.memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return total


if __name__ == "__main__":
    main()
