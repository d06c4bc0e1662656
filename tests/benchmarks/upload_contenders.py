"""An upload to the small Hub of this machine, against `hf upload`.

Both speak LFS. The Hub keeps each content once, so every run gets an empty one. The files' digests
are known beforehand, as a finished artifact's are; ours compares the bytes with them before it
sends.
"""

import json
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

from huggingface_hub import constants

from tasks.core.demo.hub import HubAccount, running_hub
from tasks.core.files.digests import FileDigest, digests_of
from tasks.core.hub.client import api
from tasks.core.hub.publish.files import Wanted
from tasks.core.hub.publish.to_hub.repository import HubRepository
from tasks.core.hub.publish.to_hub.upload import upload
from tasks.core.progress import silent

REPO, TOKEN = "kawan/usaha", "hf_bench"
DIGESTS = "digests.json"

_OURS = """
import sys
from pathlib import Path
from tests.benchmarks.upload_contenders import upload_model
upload_model(*map(Path, sys.argv[1:]))
"""


def ours(model: Path) -> tuple[str, ...]:
    """Return the command that uploads a model directory as `publish` does."""
    return sys.executable, "-c", _OURS, str(model), str(model.parent / DIGESTS)


def hf(model: Path) -> tuple[str, ...]:
    """Return the command of huggingface_hub's own client."""
    return str(Path(sys.executable).with_name("hf")), "upload", REPO, str(model), "--private"


def write_digests(model: Path) -> None:
    """Put down what a manifest would say of the model's files."""
    files = sorted(path for path in model.rglob("*") if path.is_file())
    digests = zip(files, digests_of(files), strict=True)
    known = {str(file.relative_to(model)): [d.size_bytes, d.sha256] for file, d in digests}
    (model.parent / DIGESTS).write_text(json.dumps(known))


def upload_model(model: Path, digests: Path) -> None:
    """Upload the files whose digests are known."""
    known = {name: FileDigest(*digest) for name, digest in json.loads(digests.read_text()).items()}
    remote = HubRepository(api(), REPO, deadline_s=0)
    remote.api.create_repo(REPO, private=True)
    remote.api.create_branch(REPO, branch="build")
    files = {name: Wanted(name, digest, model / name) for name, digest in known.items()}
    upload(remote, "build", files, on_progress=silent)


@contextmanager
def empty_hub(root: Path) -> Iterator[None]:
    """Run an empty Hub that this process and its children upload to, by LFS."""
    shutil.rmtree(root, ignore_errors=True)
    try:
        with running_hub(root, tokens={TOKEN: HubAccount("kawan")}) as address:
            values = {"HF_ENDPOINT": address.url, "HF_TOKEN": TOKEN, "HF_HUB_DISABLE_XET": "1"}
            # The variable is read when huggingface_hub is imported, which this process has done.
            without_xet = mock.patch.object(constants, "HF_HUB_DISABLE_XET", True)
            with without_xet, mock.patch.dict(os.environ, values):
                yield
    finally:
        shutil.rmtree(root, ignore_errors=True)
