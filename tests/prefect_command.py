"""`kawan-usaha prefect up` and `down` as a person types them, with a home of their own."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from flows.prefect_server.local_prefect import LocalPrefect
from flows.prefect_server.pools import POOLS
from flows.prefect_server.start_stop import stop_prefect

COMMAND = str(Path(sys.executable).with_name("kawan-usaha"))
HANG_S = 900
"""Far above what anything here takes, also on a busy machine."""


@dataclass(frozen=True)
class Prefect:
    """The command line with a home and a directory for temporary files of its own.

    `env` is added to the environment, which server, workers and runs inherit.
    """

    root: Path
    env: Mapping[str, str] = field(default_factory=dict)

    @property
    def at(self) -> LocalPrefect:
        """Return the Prefect that it starts."""
        return LocalPrefect(self.root / "home", tuple(POOLS))

    def __call__(self, *words: str) -> "subprocess.CompletedProcess[str]":
        """Run `kawan-usaha prefect` with these words."""
        return self.kawan_usaha("prefect", *words, "--json")

    def kawan_usaha(self, *words: str, **env: str) -> "subprocess.CompletedProcess[str]":
        """Run any command in this home."""
        (self.root / "tmp").mkdir(exist_ok=True)
        own = {"KAWAN_USAHA_HOME": str(self.at.home), "TMPDIR": str(self.root / "tmp")}
        others = {name: value for name, value in os.environ.items() if "PREFECT" not in name}
        return subprocess.run(
            [COMMAND, *words],
            env={**others, **self.env, **own, **env},
            capture_output=True,
            text=True,
            timeout=HANG_S,
            check=False,
        )

    def up(self, *words: str) -> str:
        """Return the address of the API."""
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
        stop_prefect(made.at, say=lambda _: None)
