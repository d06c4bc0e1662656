"""The lifecycle of a tiny model with the real command: what it came to, and who knew a secret.

It builds, publishes to a Hub, hands over to an S3 bucket and serves; the same command again, on the
Prefect server of the suite, finds everything done; a third one fails, with its traceback. All that
they write lies below one directory, which is searched to the last byte; each process that they
start is looked at in /proc.
"""

import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import boto3
import httpx
import pytest
from huggingface_hub import snapshot_download
from prefect.settings import PREFECT_API_URL

from tasks.core.files.digests import sha256_of
from tasks.core.home import PROJECT
from tasks.core.serving.client.chat import chat
from tasks.core.serving.client.key_variables import API_KEY_VARIABLE, API_KEYS_VARIABLE
from tasks.core.serving.launch.ending import stop
from tasks.core.serving.state.directory import state_directory
from tasks.core.serving.state.files import read_deployment
from tasks.core.serving.state.record import Deployment
from tasks.core.serving.supervision.processes import own_processes
from tasks.core.signing import KEY_VARIABLE as SIGNING_VARIABLE
from tasks.core.signing import public_keys
from tasks.core.signing.keys import PASSWORD_VARIABLE
from tests.machines import record_speed
from tests.made_once import directory_of_the_run
from tests.prefork import preforked
from tests.s3_server import KEYS as S3_KEYS
from tests.s3_server import make_bucket, s3_server
from tests.secrets import SECRETS, Seen, files_that_tell, watched
from tests.signing_keys import make_pair
from tests.temporary_prefect import temporary_prefect
from tests.tiny_world import tiny_world

COMMAND = str(Path(sys.executable).with_name("kawan-usaha"))
GATEWAY_KEY = "sesame-of-the-gateway"
BUCKET = "kawan"
ACTIVATIONS = ["silu", "silu", "gelu"]
KNOWN = {
    **SECRETS,
    **S3_KEYS,
    "AWS_SECRET_ACCESS_KEY": "sesame/aws",
    API_KEYS_VARIABLE: f"phone:{GATEWAY_KEY}",
    API_KEY_VARIABLE: GATEWAY_KEY,
    "PREFECT_API_AUTH_STRING": "warung:sesame",
    "KAWAN_USAHA_NO_SUCH_THING": "sesame under this project's own prefix",
    SIGNING_VARIABLE: "",  # made for the run: the text of a private key
    PASSWORD_VARIABLE: "sesame of the key to sign with",
}

OF_SERVING = {API_KEYS_VARIABLE, API_KEY_VARIABLE}
MAY_HOLD = {
    f"{COMMAND} ": {*KNOWN},  # the command itself, which reads, sends and deploys
    "prefect.server.api.server": {name for name in KNOWN if name.startswith("PREFECT_")},
    "supervisor.supervisord": OF_SERVING,  # it starts the next two
    "tasks.core.serving.gateway": OF_SERVING,
    "tasks.serving_watch": OF_SERVING,  # it starts supervisord again
    "tasks.core.serving.page": {API_KEY_VARIABLE},
}
"""By a word of the command line. Whoever is not named here holds none.

Programs of the system that a library asks something (matplotlib `fc-list`, Python's `platform`
`file`) are not looked at: they run nobody's code.
"""


@dataclass(frozen=True)
class Told:
    """What was done: where all of it was written, what was said, and who ran."""

    written: Path
    environ: dict[str, str]
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
    record_speed(mine / places["KAWAN_USAHA_HOME"])
    with (
        temporary_prefect(directory_of_the_run(tmp_path_factory)),
        tiny_world(root / "world") as world,
        s3_server() as s3,
    ):
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
            publish={"signed_by": str(pair.public)},
            deploy={"signed_by": str(pair.public)},
        )
        broken = world.recipe(mine / "broken.yaml", base={"repo": "kawan-usaha/no-such"})
        on_server = {"PREFECT_API_URL": str(PREFECT_API_URL.value())}
        said: dict[str, subprocess.CompletedProcess[str]] = {}
        try:
            with watched(mine) as seen:
                for name, words, more in (
                    ("whole", ["rebuild", str(whole)], {}),
                    ("again", ["rebuild", str(whole), "--json"], on_server),
                    ("broken", ["--debug", "rebuild", str(broken)], {}),
                ):
                    said[name] = subprocess.run(
                        [COMMAND, *words],
                        env={**environ, **more},
                        umask=0,  # as careless as a machine can be
                        capture_output=True,
                        text=True,
                        check=False,
                    )
                seen.look(again=True)
            _published(environ, mine / "published")
            fingerprint = public_keys(pair.public)[0].fingerprint
            yield Told(mine, environ, said, seen, _objects(s3), secrets, fingerprint)
        finally:
            if state_directory(mine / "home", "whole").root.exists():
                stop(mine / "home", "whole")


def _published(environ: dict[str, str], place: Path) -> None:
    """Fetch what was published, to be searched too."""
    snapshot_download(
        "kawan-usaha/released",
        endpoint=environ["HF_ENDPOINT"],
        token=environ["HF_TOKEN"],
        local_dir=place,
        cache_dir=place.with_name("cache"),
    )


@pytest.fixture
def deployment(told: Told) -> Deployment:
    found = read_deployment(state_directory(told.written / "home", "whole"))
    assert found is not None
    return found


def command(told: Told, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [COMMAND, *words], env=told.environ, capture_output=True, text=True, check=False
    )


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
    assert (told.written / "published" / "config.json").is_file()
    assert any(name.endswith("manifest.json") for name in told.bucket)
    assert own_processes(state_directory(told.written / "home", "whole").root)
    for module in (
        *("tasks.core.architecture.proof.entry", "tasks.core.evaluation.entry"),
        *("tasks.core.training.entry", "tasks/core/hub/publish/to_hub/load_probe.py"),
        *("tasks.core.serving.engines", "tasks.core.serving.gateway", "tasks.core.process.guard"),
    ):
        assert told.seen.of(module), f"{module} was not seen"


def test_all_of_it_was_signed(told: Told) -> None:
    """Else nothing would show that the key to sign with leaves no trace."""
    signature = told.written / "published" / "model.sig"
    record = json.loads(next((told.written / "home" / "runs").glob("whole-*.json")).read_text())
    assert record["signed_by"] == told.signed_by
    assert record["signature_sha256"] == sha256_of(signature)
    artifacts = {name.split("/")[1] for name in told.bucket if name.endswith("/manifest.json")}
    signatures = [name for name in told.bucket if name.endswith(f"{told.signed_by}.sig")]
    assert len(signatures) >= len(artifacts) > 3


def test_the_same_command_again_finds_everything_done(told: Told) -> None:
    stages = json.loads(told.said["again"].stdout)["stages"]
    assert [stage["stage"] for stage in stages] == [
        *("base", "delta", "merge", "edit", "prepare", "finetune", "fuse"),
        *("evaluate", "publish", "deploy"),
    ]
    assert all(stage["cached"] for stage in stages)


def test_running_worker_shows_gelu_in_its_last_layer(deployment: Deployment) -> None:
    answer = httpx.get(f"{deployment.engine_url}/kawan_usaha/report", trust_env=False)
    edit = answer.json()["edit"]
    assert edit["activations"] == ACTIVATIONS
    assert edit["alive"] is True


@pytest.mark.parametrize("stream", [True, False])
def test_chat_is_answered(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch, stream: bool
) -> None:
    monkeypatch.setenv(API_KEY_VARIABLE, GATEWAY_KEY)
    messages = [{"role": "user", "content": "Apa kabar?"}]
    pieces = chat(
        deployment.base_url, "Kawan-Usaha", messages, stream=stream, max_tokens=8, temperature=0
    )
    assert "".join(pieces)


def test_published_model_loads_from_a_fresh_cache_with_its_edit_alive(
    told: Told, tmp_path: Path
) -> None:
    fresh = {"HF_HOME": str(tmp_path), "HF_MODULES_CACHE": str(tmp_path / "modules")}
    hub = {name: told.environ[name] for name in ("HF_ENDPOINT", "HF_TOKEN")}
    child = subprocess.run(
        preforked("torch", "tests.loading", "kawan-usaha/released"),
        env={**os.environ, **hub, **fresh},
        capture_output=True,
        text=True,
        check=True,
    )
    shown = json.loads(child.stdout.splitlines()[-1])["activations"]
    assert [word.removesuffix("()").lower()[:4] for word in shown] == ACTIVATIONS


def test_model_card_tells_lineage_edit_and_checksums(told: Told) -> None:
    card = (told.written / "published" / "README.md").read_text()
    stages = {each["stage"]: each for each in json.loads(told.said["again"].stdout)["stages"]}
    assert stages["base"]["facts"]["revision"] == "main"
    assert "kawan-usaha/base" in card
    assert stages["edit"]["digest"] in card
    assert "activation of layer 2" in card
    assert "trust_remote_code=True" in card
    assert "vicuna_v1.1" in card


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


def test_status_and_stop_find_the_servers_from_another_process(
    told: Told, deployment: Deployment
) -> None:
    """The last of all: nothing serves after it."""
    shown = command(told, "status")
    assert shown.returncode == 0, shown.stderr
    assert "layers 0-1 silu, layer 2 gelu" in shown.stdout
    assert command(told, "stop", "whole").returncode == 0
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{deployment.base_url}/models", trust_env=False)
    assert command(told, "status").stdout.strip() == "Nothing is deployed."


def _allowed(command: str) -> set[str]:
    return {name for word, names in MAY_HOLD.items() if word in command for name in names}
