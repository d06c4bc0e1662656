"""`kawan-usaha prefect` for tests: a server, workers and deployments with a home of their own."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from flows.operations import Operations, down
from flows.pools import POOLS

COMMAND = str(Path(sys.executable).with_name("kawan-usaha"))
HANG_S = 900


@dataclass(frozen=True)
class Prefect:
    """The command line with a home and a directory for temporary files of its own."""

    root: Path

    @property
    def at(self) -> Operations:
        return Operations(self.root / "home", tuple(POOLS))

    def __call__(self, *words: str) -> "subprocess.CompletedProcess[str]":
        (self.root / "tmp").mkdir(exist_ok=True)
        own = {"KAWAN_USAHA_HOME": str(self.at.home), "TMPDIR": str(self.root / "tmp")}
        others = {name: value for name, value in os.environ.items() if "PREFECT" not in name}
        return subprocess.run(
            [COMMAND, "prefect", *words, "--json"],
            env={**others, **own},
            capture_output=True,
            text=True,
            timeout=HANG_S,
            check=False,
        )

    def up(self, *words: str) -> str:
        ran = self("up", *words)
        assert ran.returncode == 0, ran.stderr + ran.stdout
        return str(json.loads(ran.stdout)["api"])


@contextmanager
def prefect_home(root: Path) -> Iterator[Prefect]:
    """Give the command line with a home below root; what it has started ends with the block."""
    made = Prefect(root)
    try:
        yield made
    finally:
        down(made.at, say=lambda _: None)
