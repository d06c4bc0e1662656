"""The page as a process of its own, and a scripted gateway to put before it."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx

from tests.unit.serving.gateway.world import (
    MODEL_NAME,
    ROOT,
    Process,
    free_port,
    server_pid,
    until,
)


class Scripted(Process):
    """A gateway whose answers a test writes."""

    def __init__(self, directory: Path) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        script = Path(__file__).with_name("scripted.py")
        super().__init__(directory / "scripted.log", [sys.executable, str(script), str(self.port)])
        until(self.listens)

    def answers(self, *answers: str | dict[str, Any]) -> None:
        told = [{"text": each} if isinstance(each, str) else each for each in answers]
        httpx.post(f"{self.url}/test/answers", json=told).raise_for_status()

    def state(self) -> dict[str, Any]:
        """What runs now, and what was asked since the last time."""
        return httpx.get(f"{self.url}/test/state").json()


class Page(Process):
    def __init__(
        self,
        directory: Path,
        gateway_url: str,
        *,
        env: dict[str, str] | None = None,
        wait: bool = True,
        **settings: Any,
    ) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        content = {
            "base_url": f"{gateway_url}/v1",
            "model_name": MODEL_NAME,
            "port": self.port,
            **settings,
        }
        self.settings = directory / "page.json"
        self.settings.write_text(json.dumps(content))
        argv = [sys.executable, "-P", "-m", "tasks.core.serving.page", str(self.settings)]
        super().__init__(directory / "page.log", argv, env=env or {})
        if wait:
            until(self.listens, within_s=300)


class CommandsPage:
    """The page of `kawan-usaha chat --web`, which is running."""

    def __init__(self, home: Path) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        program = "from flows.cli import main; main()"
        self.command = subprocess.Popen(
            [sys.executable, "-c", program, "chat", "--web", "--port", str(self.port)],
            env=os.environ | {"KAWAN_USAHA_HOME": str(home), "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.command.stdout is not None
        self.first_line = self.command.stdout.readline()

    @property
    def pid(self) -> int:
        """The page's own process, a child of the command."""
        return server_pid(self.port)

    def end(self) -> None:
        self.command.kill()
        self.command.communicate()
