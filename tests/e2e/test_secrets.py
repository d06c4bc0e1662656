"""The whole lifecycle with known secrets in the environment: which process, file or word has one.

A real command builds, publishes to a directory, hands over to an S3 bucket and serves; a second one
fails, with its traceback. All that they write lies below one directory, which is searched to the
last byte; each process that they start is looked at in /proc.
"""

import json
import stat
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import boto3
import pytest

from tasks.core.files import sha256_of
from tasks.core.home import PROJECT
from tasks.core.serving.deployment import stop
from tasks.core.serving.key_variables import KEY_VARIABLE, KEYS_VARIABLE
from tasks.core.serving.processes import own_processes
from tasks.core.serving.state import state_directory
from tasks.core.signing import KEY_VARIABLE as SIGNING_VARIABLE
from tasks.core.signing import public_keys
from tasks.core.signing.keys import PASSWORD_VARIABLE
from tests.s3_server import KEYS as S3_KEYS
from tests.s3_server import make_bucket, s3_server
from tests.secrets import SECRETS, Seen, files_that_tell, watched
from tests.signing_keys import make_pair
from tests.tiny_world import tiny_world

COMMAND = str(Path(sys.executable).with_name("kawan-usaha"))
GATEWAY_KEY = "sesame-of-the-gateway"
BUCKET = "kawan"
KNOWN = {
    **SECRETS,
    **S3_KEYS,
    "AWS_SECRET_ACCESS_KEY": "sesame/aws",
    KEYS_VARIABLE: f"phone:{GATEWAY_KEY}",
    KEY_VARIABLE: GATEWAY_KEY,
    "PREFECT_API_AUTH_STRING": "warung:sesame",
    "KAWAN_USAHA_NO_SUCH_THING": "sesame under this project's own prefix",
    SIGNING_VARIABLE: "",  # made for the run: the text of a private key
    PASSWORD_VARIABLE: "sesame of the key to sign with",
}

OF_SERVING = {KEYS_VARIABLE, KEY_VARIABLE}
MAY_HOLD = {
    f"{COMMAND} ": {*KNOWN},  # the command itself, which reads, sends and deploys
    "prefect.server.api.server": {name for name in KNOWN if name.startswith("PREFECT_")},
    "supervisor.supervisord": OF_SERVING,  # it starts the next two
    "tasks.core.serving.gateway": OF_SERVING,
    "tasks.serving_watch": OF_SERVING,  # it starts supervisord again
    "tasks.core.serving.page": {KEY_VARIABLE},
}
"""By a word of the command line. Whoever is not named here holds none.

Programs of the system that a library asks something (matplotlib `fc-list`, Python's `platform`
`file`) are not looked at: they run nobody's code.
"""


@dataclass(frozen=True)
class Told:
    """What was done: where all of it was written, what was said, and who ran."""

    written: Path
    said: dict[str, subprocess.CompletedProcess[str]]
    seen: Seen
    bucket: dict[str, bytes]
    secrets: tuple[str, ...]
    signed_by: str


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Told]:
    root = tmp_path_factory.mktemp("secrets")
    mine = root / "mine"
    places = {
        "HOME": "user",
        "TMPDIR": "tmp",
        "XDG_CACHE_HOME": "user/.cache",
        "HF_HOME": "user/hf",
        "PREFECT_HOME": "prefect",
        "KAWAN_USAHA_HOME": "home",
    }
    for place in places.values():
        (mine / place).mkdir(parents=True, exist_ok=True)
    (root / "world").mkdir()
    with tiny_world(root / "world") as world, s3_server() as s3:
        make_bucket(s3, BUCKET)
        pair = make_pair(root / "keys", password=KNOWN[PASSWORD_VARIABLE])
        private = pair.private.read_text()
        environ = {
            **{name: value for name, value in world.env.items() if "PREFECT" not in name},
            **KNOWN,
            **{name: str(mine / place) for name, place in places.items()},
            "HF_TOKEN": world.env["HF_TOKEN"],
            "AWS_ENDPOINT_URL": s3,
            "KAWAN_USAHA_REMOTE": f"s3://{BUCKET}/shared",
            "KAWAN_USAHA_TRUSTED_KEYS": str(pair.public),
            SIGNING_VARIABLE: private,
            "PYTHONPATH": str(PROJECT),
        }
        secrets = ("sesame", world.env["HF_TOKEN"], private.splitlines()[1])
        whole = world.recipe(
            mine / "whole.yaml",
            edit={"activations": [{"layers": [-1], "activation": "gelu"}]},
            evaluate={"gate": {"max_perplexity_ratio": 4.0}},
            publish={
                "repo": None,
                "target": str(mine / "published"),
                "license": "apache-2.0",
                "signed_by": str(pair.public),
            },
            deploy={
                "engine": "transformers",
                "load_8bit": False,
                "signed_by": str(pair.public),
            },
        )
        broken = world.recipe(mine / "broken.yaml", base={"repo": "kawan-usaha/no-such"})
        said: dict[str, subprocess.CompletedProcess[str]] = {}
        try:
            with watched(mine) as seen:
                for name, words in {
                    "whole": ["rebuild", str(whole)],
                    "broken": ["--debug", "rebuild", str(broken)],
                }.items():
                    said[name] = subprocess.run(
                        [COMMAND, *words],
                        env=environ,
                        umask=0,  # as careless as a machine can be
                        capture_output=True,
                        text=True,
                        check=False,
                    )
                seen.look(again=True)
            yield Told(
                mine, said, seen, _objects(s3), secrets, public_keys(pair.public)[0].fingerprint
            )
        finally:
            if state_directory(mine / "home", "whole").root.exists():
                stop(mine / "home", "whole")


def _objects(address: str) -> dict[str, bytes]:
    client = boto3.client(
        "s3", endpoint_url=address, aws_access_key_id="a", aws_secret_access_key="b"
    )
    names = [
        each["Key"]
        for page in client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET)
        for each in page.get("Contents", ())
    ]
    return {name: client.get_object(Bucket=BUCKET, Key=name)["Body"].read() for name in names}


def test_the_whole_was_built_published_shared_and_served(told: Told) -> None:
    assert told.said["whole"].returncode == 0, told.said["whole"].stderr[-4000:]
    assert list((told.written / "published").glob("builds/*/config.json"))
    assert any(name.endswith("manifest.json") for name in told.bucket)
    assert own_processes(state_directory(told.written / "home", "whole").root)
    for module in (
        *("tasks.core.architecture.prove", "tasks.core.evaluation.entry"),
        "tasks.core.training.entry",
        *("tasks.core.serving.engines", "tasks.core.serving.gateway", "tasks.core.process.guard"),
    ):
        assert told.seen.of(module), f"{module} was not seen"


def test_all_of_it_was_signed(told: Told) -> None:
    """Else nothing would show that the key to sign with leaves no trace."""
    (signature,) = (told.written / "published").glob("builds/*/model.sig")
    record = json.loads(next((told.written / "home" / "runs").glob("whole-*.json")).read_text())
    assert record["signed_by"] == told.signed_by
    assert record["signature_sha256"] == sha256_of(signature)
    artifacts = {name.split("/")[1] for name in told.bucket if name.endswith("/manifest.json")}
    signatures = [name for name in told.bucket if name.endswith(f"{told.signed_by}.sig")]
    assert len(signatures) >= len(artifacts) > 3


def test_the_broken_one_failed_with_its_traceback(told: Told) -> None:
    assert told.said["broken"].returncode not in (0, None)
    assert "Traceback" in told.said["broken"].stderr


def test_nothing_that_was_written_holds_a_secret(told: Told) -> None:
    assert list(told.written.rglob("prefect.db")), "Prefect's own database is among it"
    assert files_that_tell(told.written, told.secrets) == []


def test_nothing_in_the_shared_bucket_holds_a_secret(told: Told) -> None:
    assert [n for n, c in told.bucket.items() if any(s.encode() in c for s in told.secrets)] == []


def test_nothing_that_was_said_holds_a_secret(told: Told) -> None:
    for name, done in told.said.items():
        assert not any(secret in done.stdout + done.stderr for secret in told.secrets), name


def test_no_command_line_holds_a_secret(told: Told) -> None:
    assert [p.command for p in told.seen.all() if any(s in p.command for s in told.secrets)] == []


def test_each_process_holds_only_the_secrets_that_it_needs(told: Told) -> None:
    wrong = {
        process.command: sorted(extra)
        for process in told.seen.all()
        if Path(process.command.split()[0]).name.startswith("python")
        if (extra := process.holding(told.secrets) - _allowed(process.command))
    }
    assert wrong == {}, json.dumps(wrong, indent=1)


def test_who_needs_a_secret_has_it(told: Told) -> None:
    """Else the test above would pass with an environment that never held one."""
    (command, *_) = told.seen.of(f"{COMMAND} rebuild")
    assert command.holding(told.secrets) >= set(KNOWN) - {"AWS_ACCESS_KEY_ID", "AWS_DEFAULT_REGION"}
    (gateway, *_) = told.seen.of("tasks.core.serving.gateway")
    assert gateway.holding(told.secrets) == OF_SERVING


def test_nobody_else_may_change_anything_that_was_written(told: Told) -> None:
    everything = (path for path in told.written.rglob("*") if not path.is_symlink())
    assert [path for path in everything if path.stat().st_mode & stat.S_IWOTH] == []


def test_what_a_deployment_keeps_is_its_owners_alone(told: Told) -> None:
    state = state_directory(told.written / "home", "whole")
    sockets = [state.socket, state.gateway_socket]
    assert all(path.is_socket() for path in sockets)
    assert [path for path in (state.root, *sockets) if path.stat().st_mode & 0o077] == []


def _allowed(command: str) -> set[str]:
    return {name for word, names in MAY_HOLD.items() if word in command for name in names}
