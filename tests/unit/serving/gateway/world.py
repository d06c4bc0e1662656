"""A gateway and small engines as processes of their own, as a deployment starts them."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import openai
import psutil

from tasks.core.process.ports import free_port
from tasks.core.serving.engines.registry import engine_of
from tasks.core.serving.gateway.control import GatewayControl
from tasks.core.serving.state.directory import StateDirectory
from tasks.core.serving.state.record import Deployment
from tasks.core.serving.supervision.processes import own_processes
from tests.prefork import preforked

ROOT = Path(__file__).parents[4]
MODEL_NAME = "Kawan-Usaha"
TAKES = ("seed", "logprobs", "prompt_logprobs")
CONTEXT = 2048


def server_pid(port: int) -> int:
    """Return the process that listens: what was started only waits for one that is preforked."""
    (found,) = {
        each.pid
        for each in psutil.net_connections("tcp")
        if each.status == psutil.CONN_LISTEN and each.laddr.port == port
    }
    assert found is not None
    return found


def until(holds: Callable[[], Any], *, within_s: float = 300) -> Any:
    """Return the first true answer of a question that is asked again and again."""
    end = time.monotonic() + within_s
    while not (answer := holds()):
        assert time.monotonic() < end, "not in time"
        time.sleep(0.02)
    return answer


class Process:
    """A server of HTTP that is ended with its test; what it wrote is in `log`."""

    port: int

    def __init__(self, log: Path, argv: list[str], **options: Any) -> None:
        self.log = log
        with log.open("ab") as out:
            self.process = subprocess.Popen(
                argv,
                stdout=out,
                stderr=subprocess.STDOUT,
                cwd=ROOT,
                env=os.environ | {"PYTHONPATH": str(ROOT)} | options.pop("env", {}),
                **options,
            )

    @property
    def text(self) -> str:
        return self.log.read_text()

    def listens(self) -> bool:
        """Whether it is well. A client takes longer to make than to be refused a connection."""
        assert self.process.poll() is None, self.text
        place = ("127.0.0.1", self.port)
        with suppress(OSError, httpx.HTTPError), socket.create_connection(place):
            return httpx.get(f"http://127.0.0.1:{self.port}/health").is_success
        return False

    def end(self) -> None:
        self.process.kill()
        self.process.wait()


class Engine(Process):
    def __init__(self, directory: Path, model: Path, port: int = 0) -> None:
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        argv = preforked("torch", f"{__package__}.small_engine", str(model), str(self.port))
        super().__init__(directory / f"{self.port}.log", argv)

    def misbehave(self, how: str | None, times: int = 1, pace_s: float = 0.01) -> None:
        told = {"how": how, "times": times, "pace_s": pace_s}
        httpx.post(f"{self.url}/test/misbehave", json=told).raise_for_status()

    def state(self) -> dict[str, Any]:
        """What is computed now, and what was asked since the last time."""
        return httpx.get(f"{self.url}/test/state").json()


def a_route(directory: Path, engines: list[str], **changes: Any) -> dict[str, Any]:
    """routes.json for engines at these addresses."""
    route = {
        "model_name": MODEL_NAME,
        "build": "b1",
        "slot": "blue",
        "engine": "transformers",
        "template": "vicuna_v1.1",
        "model": str(directory),
        "context_tokens": CONTEXT,
        "takes": list(TAKES),
        "embeds": True,
        "upstreams": [{"name": f"e{i}", "url": url} for i, url in enumerate(engines)],
    }
    return {"route": route | changes}


@contextmanager
def engine_in(directory: Path, model: Path) -> Iterator[Engine]:
    """Yield a small engine that answers; it ends with the block."""
    engine = Engine(directory, model)
    try:
        until(engine.listens)
        yield engine
    finally:
        engine.end()


class Door:
    """How clients come to a gateway, and what the engine behind it can do."""

    port: int
    control: GatewayControl
    takes: frozenset[str] = frozenset(TAKES)
    embeds = True
    engine = "transformers"
    slot = "blue"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def client(self, key: str = "none", **options: Any) -> openai.OpenAI:
        options = {"max_retries": 0, "timeout": 60.0} | options
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key=key, **options)

    def post(self, path: str, body: Any, **options: Any) -> httpx.Response:
        return httpx.post(f"{self.url}{path}", json=body, timeout=60, **options)

    def chat(self, **fields: Any) -> httpx.Response:
        """A short conversation, with these fields beside."""
        body = {"model": MODEL_NAME, "messages": MESSAGES, "max_tokens": 4, **fields}
        return self.post("/v1/chat/completions", body)

    def ask_and_wait(self, body: dict[str, Any]) -> socket.socket:
        """A client that has asked and has read nothing yet."""
        content = json.dumps(body).encode()
        head = (
            "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\n"
            f"Content-Length: {len(content)}\r\n\r\n"
        )
        client = socket.create_connection(("127.0.0.1", self.port))
        client.sendall(head.encode() + content)
        return client

    def in_flight(self) -> int:
        return sum(self.control.state().in_flight.get(self.slot, {}).values())

    def computes(self) -> bool:
        """Whether the engine is busy."""
        return self.in_flight() > 0


class Deployed(Door):
    """The gateway of a whole deployment."""

    def __init__(self, deployment: Deployment) -> None:
        engine = engine_of(deployment.settings.engine)
        self.engine, self.takes, self.embeds = engine.name, engine.takes, engine.embeds
        self.port, self.slot = deployment.settings.gateway.port, deployment.slot
        self._state = StateDirectory(deployment.state)
        self.control = GatewayControl(self._state.gateway_socket)

    def computes(self) -> bool:
        """Whether the engine's processes take a fifth of a core, of their own or the kernel's."""
        began, before = time.monotonic(), self._cpu_s()
        time.sleep(0.5)
        return (self._cpu_s() - before) / (time.monotonic() - began) > 0.2

    def _cpu_s(self) -> float:
        engine = [own for own in own_processes(self._state.root) if own.role == self.slot]
        return sum(sum(own.process.cpu_times()[:2]) for own in engine)


class Gateway(Process, Door):
    """A gateway over a directory of its own."""

    command = staticmethod(partial(preforked, "gateway"))

    def __init__(
        self,
        directory: Path,
        routes: dict[str, Any] | None,
        *,
        gateway: dict[str, Any] | None = None,
        env: dict[str, str] | None = None,
        inherited: socket.socket | None = None,
        wait: bool = True,
        **settings: Any,
    ) -> None:
        self.directory = directory
        self.routes = directory / "routes.json"
        if routes is not None:
            self.write_routes(routes)
        self.port = inherited.getsockname()[1] if inherited else free_port()
        gateway = {"port": self.port, **(gateway or {})}
        self.port = gateway["port"]
        self.control_socket = directory / "control.sock"
        self.control = GatewayControl(self.control_socket)
        content = {
            "gateway": gateway,
            "routes": str(self.routes),
            "control_socket": str(self.control_socket),
            **settings,
        }
        file = directory / "settings.json"
        file.write_text(json.dumps(content))
        self.argv = self.command("tasks.core.serving.gateway", str(file))
        super().__init__(
            directory / "gateway.log",
            self.argv,
            env=env or {},
            stdin=inherited or subprocess.DEVNULL,
        )
        if wait:
            until(self.listens)

    def write_routes(self, routes: dict[str, Any]) -> None:
        self.routes.write_text(json.dumps(routes))

    def metric(self, name: str, **labels: str) -> float:
        """The value of a metric, 0 where nothing was counted."""
        for line in httpx.get(f"{self.url}/metrics").text.splitlines():
            found, _, value = line.rpartition(" ")
            if found.partition("{")[0] == name and all(
                f'{key}="{of}"' in found for key, of in labels.items()
            ):
                return float(value)
        return 0.0


class RealGateway(Gateway):
    """One in a process that is started as a deployment does it."""

    @staticmethod
    def command(module: str, *arguments: str) -> list[str]:
        return [sys.executable, "-P", "-m", module, *arguments]


MESSAGES = [{"role": "user", "content": "apa kabar"}]
LONG = {"model": MODEL_NAME, "messages": MESSAGES, "max_tokens": 1500, "temperature": 0}
"""Does not end by itself: it is greedy. A sampled answer meets the end of the text by chance."""
PROMPT = (
    "A chat between a curious user and an artificial intelligence assistant. The assistant gives "
    "helpful, detailed, and polite answers to the user's questions. USER: apa kabar ASSISTANT:"
)
"""What the template makes of them."""
