"""A newcomer's machine: a checkout with its environment, a shell in it, and a Hub of tiny models.

The checkout is a copy, in which the recipes keep every field and are cheap. On the Hub, three
layers have the names of the models that the README downloads.
"""

import json
import os
import shutil
import signal
import site
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from hatchling.builders.wheel import WheelBuilder
from huggingface_hub import HfApi

from flows.prefect_server.local_prefect import LocalPrefect
from flows.prefect_server.pools import POOLS
from flows.prefect_server.start_stop import stop_prefect
from tasks.core.demo.hub.access import HubAccount
from tasks.core.demo.hub.server import running_hub
from tasks.core.demo.models import BASE_REPO, DELTA_REPO
from tasks.core.home import PROJECT
from tasks.core.process.ports import free_port
from tasks.core.serving.launch.ending import stop
from tasks.core.serving.state.directory import state_directories
from tests.models import tiny_delta, tiny_llama

_COPIED = (
    *("flows", "tasks", "data", "prefect.yaml", "Makefile", "README.md", "LICENSE"),
    *("pyproject.toml", "hatch_build.py", "requirements.lock", "requirements-demo.lock"),
)
_KEPT = ("KAWAN_USAHA_LOCKS", "LANG", "HF_HUB_DISABLE_XET", "DO_NOT_TRACK", "OMP_NUM_THREADS")
_BASES = (BASE_REPO, "huggyllama/llama-13b")
_DELTAS = (DELTA_REPO, "lmsys/vicuna-13b-delta-v1.1")
_ACCOUNT = HubAccount("kawan-usaha", organizations=("huggyllama", "lmsys", "our-team"))
_TOKEN = "hf_of_a_newcomer"
_RECORDS = 12
"""How many of the starter conversations there are."""
_CHEAP: dict[str, dict[str, Any]] = {
    "finetune": {
        "device": "cpu",
        "precision": "float32",
        "zero_stage": 0,
        "processes": 1,
        "gradient_accumulation_steps": 1,
        "max_steps": 2,
        "max_length_tokens": 2048,
    },
    "evaluate": {"device": "cpu", "max_conversations": 2, "max_prompts": 1, "max_new_tokens": 4},
    "deploy": {"device": "cpu", "load_8bit": False},
}
_SHELL = (
    *("env", "--default-signal=INT"),  # where tests run in the background it is ignored
    *("bash", "-c", 'eval "$1"; code=$?; env -0 > "$2"; exit $code', "bash"),
)
_PREFECT = "#!{python}\nimport sys\nfrom prefect.cli import app\nsys.exit(app())\n"
_CTRL_C = 130


@dataclass(frozen=True)
class Ran:
    """How a command ended, and all that it printed."""

    code: int
    output: str


class Newcomer:
    """Somebody at a shell in a fresh checkout, who types one command after the other."""

    def __init__(self, root: Path, environ: Mapping[str, str]) -> None:
        self.checkout, self.user, self._root = root / "checkout", root / "user", root
        for place in (self.user, root / "tmp"):
            place.mkdir()
        kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
        own = {
            "HOME": str(self.user),
            "TMPDIR": str(root / "tmp"),
            "PATH": "/usr/local/bin:/usr/bin:/bin",
        }
        self._environ = root / "environ"
        self._environ.write_text(
            "\0".join(f"{name}={value}" for name, value in {**kept, **own, **environ}.items())
        )
        _check_out(self.checkout)
        self.set_up()

    @property
    def home(self) -> Path:
        """Where the program keeps everything."""
        return self.user / ".kawan-usaha"

    @property
    def venv(self) -> Path:
        """The environment that `make` makes."""
        return self.checkout / ".venv"

    def set_up(self) -> None:
        """Make what `make` would, with the packages that run the tests instead of PyPI's."""
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", self.venv], check=True)
        editable = WheelBuilder(str(self.checkout)).build(
            directory=str(self._root), versions=["editable"]
        )
        pip = [sys.executable, "-m", "pip", "--python", self.venv / "bin" / "python"]
        options = ["--quiet", "--disable-pip-version-check", "--no-index", "--no-deps"]
        subprocess.run([*pip, "install", *options, *editable], check=True)
        (packages,) = (self.venv / "lib").glob("python3*/site-packages")
        (packages / "dependencies.pth").write_text("\n".join(site.getsitepackages()))
        prefect = self.venv / "bin" / "prefect"
        prefect.write_text(_PREFECT.format(python=self.venv / "bin" / "python"))
        prefect.chmod(0o755)
        (self.venv / ".ready").touch()

    def types(self, command: str, *, until: str | None = None) -> Ran:
        """Run a command, which may read one empty line; Ctrl-C once it has printed `until`.

        What it does to the environment stays, as it does in a shell.
        """
        enter, output = self._root / "enter", self._root / "output"
        enter.write_text("\n")
        with enter.open() as typed, output.open("w") as printed:
            process = subprocess.Popen(
                [*_SHELL, command, str(self._environ)],
                cwd=self.checkout,
                env=self._environment(),
                stdin=typed,
                stdout=printed,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            while until is not None and process.poll() is None:
                if until in output.read_text():
                    os.killpg(process.pid, signal.SIGINT)
                    break
                time.sleep(0.2)
            code = process.wait()
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
        ended = 0 if until is not None and code == _CTRL_C else code
        return Ran(ended, output.read_text())

    def _environment(self) -> dict[str, str]:
        pairs = self._environ.read_text().strip("\0").split("\0")
        return dict(pair.split("=", 1) for pair in pairs)


@contextmanager
def newcomer(root: Path) -> Iterator[Newcomer]:
    """Yield somebody with a Hub; all that their commands have started ends with the block."""
    base, delta = tiny_llama(root / "base", seed=1, sharded=True), root / "delta"
    tiny_delta(base, tiny_llama(root / "target", seed=2), delta)
    with running_hub(root / "hub", tokens={_TOKEN: _ACCOUNT}) as hub:
        client = HfApi(endpoint=hub.url, token=hub.token)
        for folder, repos in ((base, _BASES), (delta, _DELTAS)):
            for repo in repos:
                client.create_repo(repo)
                client.upload_folder(repo_id=repo, folder_path=folder)
        somebody = Newcomer(root, {"HF_ENDPOINT": hub.url, "HF_TOKEN": hub.token})
        try:
            yield somebody
        finally:
            stop_prefect(LocalPrefect(somebody.home, tuple(POOLS)), say=lambda _: None)
            for served in state_directories(somebody.home):
                stop(somebody.home, served.name)


def _check_out(place: Path) -> None:
    place.mkdir()
    for name in _COPIED:
        there = PROJECT / name
        if there.is_dir():
            shutil.copytree(there, place / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(there, place / name)
    for file in (place / "data" / "recipes").iterdir():
        file.write_text(yaml.safe_dump(_cheap(yaml.safe_load(file.read_text())), sort_keys=False))
    data = place / "data" / "conversation.json"
    data.write_text(json.dumps(json.loads(data.read_text())[:_RECORDS]))


def _cheap(recipe: dict[str, Any]) -> dict[str, Any]:
    sections = {name: {**recipe[name], **few} for name, few in _CHEAP.items()}
    made = {**recipe, "template": "vicuna_v1.1", **sections}
    for each in ("gateway", "page"):
        if made["deploy"].get(each):
            made["deploy"][each] = {**made["deploy"][each], "port": free_port()}
    return made
