"""Verify an upload: every file's size and hash on the Hub, and that the model loads from there.

The invariant: code of the model runs only if its bytes are those that were sent, and in a process
that has no token.
"""

import json
import logging
import os
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from tasks.core.errors import UploadCorrupt
from tasks.core.files.digests import digest_of
from tasks.core.files.temporary import scratch_directory
from tasks.core.hub.card.model_class import class_that_loads
from tasks.core.hub.publish.allow_list import is_weights
from tasks.core.hub.publish.files import Wanted, build_names
from tasks.core.hub.publish.to_hub.repository import HubRepository, Tree
from tasks.core.process import child_environment, run_child

logger = logging.getLogger(__name__)

_PROBE = Path(__file__).with_name("load_probe.py")
_CACHE = "hub"
_LOADING_S = 600
_TAIL_LINES = 20


def differences(tree: Tree, wanted: Mapping[str, Wanted]) -> list[str]:
    """Return how a tree differs from the build: missing, extra or changed files; empty for none.

    Large files are compared by size and the Hub's SHA-256, small ones by size and git's id of local
    bytes whose SHA-256 is the manifest's.
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


def verify_upload(repository: HubRepository, commit: str, wanted: Mapping[str, Wanted]) -> None:
    """Raise UploadCorrupt unless the commit holds the build and the model loads from it."""
    found = differences(repository.call(lambda: repository.tree(commit)), wanted)
    if found:
        raise _other_bytes(repository, commit, "; ".join(found), wanted)
    _require_loads(repository, commit, wanted, json.loads(_content(wanted["config.json"])))


def _require_loads(
    repository: HubRepository,
    commit: str,
    wanted: Mapping[str, Wanted],
    config: Mapping[str, object],
) -> None:
    """Load configuration, tokenizer and code from the Hub, as any other user would.

    The code may be untrusted. So this process downloads the files with the token and compares them
    with what was sent; the process that runs them has these files, and neither token nor network.
    """
    with scratch_directory("probe") as directory:
        _fetch(repository, commit, wanted, directory / _CACHE)
        answer = directory / "answer.json"
        child = run_child(
            _probe(repository.repo, commit, str(answer)),
            env=_environment(directory),
            cwd=directory,
            on_line=logger.debug,
            timeout_s=_LOADING_S,
        )
        if not child.succeeded:
            found = "\n".join([child.cause.value, *child.tail[-_TAIL_LINES:]])
            raise _does_not_load(repository, commit, found)
        loaded = json.loads(answer.read_bytes())
    meant = {"model_type": config.get("model_type"), "architecture": class_that_loads(config)}
    if meant != {name: loaded[name] for name in meant}:
        raise _does_not_load(repository, commit, f"{loaded} instead of {meant}")


def _fetch(
    repository: HubRepository, commit: str, wanted: Mapping[str, Wanted], cache: Path
) -> None:
    """Download everything but the weights into an empty cache, and compare each file."""
    for name, file in wanted.items():
        if is_weights(name):
            continue
        path = repository.call(
            partial(
                repository.api.hf_hub_download,
                repository.repo,
                name,
                revision=commit,
                cache_dir=cache,
            )
        )
        found = digest_of(Path(path))
        if found != file.digest:
            raise _other_bytes(repository, commit, f"{name} is of SHA-256 {found.sha256}", wanted)


def _probe(*words: str) -> list[str]:
    return [sys.executable, "-P", str(_PROBE), *words]


def _environment(scratch: Path) -> dict[str, str]:
    """Return an environment without home, token and network."""
    return {
        **child_environment(os.environ),
        "HOME": str(scratch),
        "HF_HOME": str(scratch),
        "HF_HUB_CACHE": str(scratch / _CACHE),
        "HF_MODULES_CACHE": str(scratch / "modules"),
        "HF_HUB_OFFLINE": "1",
    }


def _other_bytes(
    repository: HubRepository, commit: str, found: str, wanted: Mapping[str, Wanted]
) -> UploadCorrupt:
    return UploadCorrupt(
        "The bytes that arrived differ from those that were sent.",
        where=f"{repository.repo}@{commit}",
        expected=f"the {len(wanted)} files of the build",
        found=found,
        next_step="Publish again: only the files that differ are sent. main was not touched.",
    )


def _does_not_load(repository: HubRepository, commit: str, found: str) -> UploadCorrupt:
    return UploadCorrupt(
        "The published model does not load as the model that was built.",
        where=f"{repository.repo}@{commit}",
        expected="configuration, tokenizer and code that load from there",
        found=found,
        next_step="Load the model's directory on this machine first; main was not touched.",
    )


def _content(file: Wanted) -> bytes:
    return file.source.read_bytes() if isinstance(file.source, Path) else file.source
