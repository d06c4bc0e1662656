"""Prove that what stands on a Hub is the build: every file's size and hash, and that it loads."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from tasks.core.errors import UploadCorrupt
from tasks.core.hub.model_class import class_that_loads
from tasks.core.hub.publish_files import Wanted, build_names
from tasks.core.hub.publish_remote import Remote, Tree

_PROBE = Path(__file__).with_name("publish_probe.py")
_LOADING_S = 600


def differences(tree: Tree, wanted: Mapping[str, Wanted]) -> list[str]:
    """Return what is missing, too much, or of other bytes in a tree; empty when it is the build.

    Large files are compared by size and the Hub's SHA-256, small ones by size and git's id over
    local bytes whose SHA-256 is the manifest's.
    """
    return [
        *(f"{name} is missing" for name in sorted(wanted.keys() - tree.keys())),
        *(f"{name} is not part of the build" for name in sorted(build_names(tree) - wanted.keys())),
        *(
            f"{name} has other bytes"
            for name, file in wanted.items()
            if name in tree and not file.is_same_as(tree[name])
        ),
    ]


def verify(remote: Remote, commit: str, wanted: Mapping[str, Wanted]) -> None:
    """Return when the commit holds the build and loads; else raise UploadCorrupt."""
    found = differences(remote.call(lambda: remote.tree(commit)), wanted)
    if found:
        raise UploadCorrupt(
            "What arrived is not what was sent.",
            where=f"{remote.repo}@{commit}",
            expected=f"the {len(wanted)} files of the build",
            found="; ".join(found),
            next_step="Publish again: only the files that differ are sent. main was not touched.",
        )
    _require_loads(remote, commit, json.loads(_content(wanted["config.json"])))


def _require_loads(remote: Remote, commit: str, config: dict[str, object]) -> None:
    """Load configuration and code as a stranger would: another process, an empty cache."""
    with tempfile.TemporaryDirectory(prefix="kawan-usaha-probe-") as cache:
        command = [sys.executable, "-P", str(_PROBE), remote.repo, commit]
        try:
            done = subprocess.run(
                command,
                env=_environment(remote, cache),
                capture_output=True,
                text=True,
                timeout=_LOADING_S,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise _does_not_load(remote, commit, f"nothing after {_LOADING_S} s") from error
    if done.returncode != 0:
        raise _does_not_load(remote, commit, done.stderr.strip()[-1500:])
    loaded = json.loads(done.stdout.splitlines()[-1])
    meant = {"model_type": config.get("model_type"), "architecture": class_that_loads(config)}
    if meant != {name: loaded[name] for name in meant}:
        raise _does_not_load(remote, commit, f"{loaded} instead of {meant}")


def _environment(remote: Remote, cache: str) -> dict[str, str]:
    """Return this process's environment with another cache, and the token that publishing uses."""
    own = ("HF_HUB_CACHE", "HF_MODULES_CACHE", "HF_TOKEN_PATH", "HF_HUB_OFFLINE")
    return {
        **{name: value for name, value in os.environ.items() if name not in own},
        "HF_HOME": cache,
        "HF_ENDPOINT": remote.api.endpoint,
        "HF_TOKEN": str(remote.api.token or ""),
    }


def _does_not_load(remote: Remote, commit: str, found: str) -> UploadCorrupt:
    return UploadCorrupt(
        "What arrived cannot be loaded as the model that was built.",
        where=f"{remote.repo}@{commit}",
        expected="configuration, tokenizer and code that load from there",
        found=found,
        next_step="Load the model's directory on this machine first; main was not touched.",
    )


def _content(file: Wanted) -> bytes:
    return file.source.read_bytes() if isinstance(file.source, Path) else file.source
