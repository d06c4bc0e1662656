"""A Hub is other people's: names that lead out of it, and code that nobody has agreed to run."""

import json
from pathlib import Path

import pytest
from huggingface_hub import HfApi
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tasks.core.architecture.edit import edit_model
from tasks.core.errors import UnsafeName, UntrustedCode
from tasks.core.hub.download.artifact import download_source
from tasks.core.hub.download.dataset_files import fetch_conversations
from tasks.core.hub.download.model import resolve_model
from tasks.core.hub.download.pinned import PinnedSource
from tasks.core.recipe import Edit, Source
from tasks.core.store import RemoteStore, RunStore, Store
from tasks.core.store.runs import RunRecords
from tests.hub_faults import Faults
from tests.models import tiny_llama
from tests.unit.hub.conftest import OWNER, REPO


class Lists:
    """A Hub that lists one file more."""

    def __init__(self, name: str) -> None:
        self._more = {"rfilename": name, "size": 2, "blobId": "0" * 40}

    async def __call__(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        whole, start = b"", None

        async def adding(message: Message) -> None:
            nonlocal whole, start
            if message["type"] == "http.response.start":
                start = message
                return
            whole += message.get("body", b"")
            if message.get("more_body"):
                return
            answer = json.loads(whole)
            answer["siblings"].append(self._more)
            body = json.dumps(answer).encode()
            headers = [h for h in start["headers"] if h[0].lower() != b"content-length"]
            await send({**start, "headers": [*headers, (b"content-length", b"%d" % len(body))]})
            await send({"type": "http.response.body", "body": body})

        await app(scope, receive, adding)


@pytest.mark.parametrize(
    "name",
    [
        "../../.bashrc",
        "/etc/cron.d/evil",
        "a/../../config.json",
        "..\\..\\evil.py",
        "modeling\0.py",
        "additional_chat_templates/../../x.jinja",
    ],
)
def test_a_listing_with_a_name_that_leads_out_is_refused_before_anything_is_fetched(
    published: str, faults: Faults, name: str
) -> None:
    faults.add(Lists(name), "/api/models/")
    with pytest.raises(UnsafeName, match="nothing was downloaded"):
        resolve_model(published, "main", token=OWNER)
    assert faults.requests("/resolve/") == []


# --- code ------------------------------------------------------------------------------------


def with_code(model: Path) -> Path:
    """A model whose own class would leave a trace wherever it is loaded."""
    (model / "modeling_other.py").write_text(f"open({str(model / 'ran')!r}, 'w')\n")
    config = json.loads((model / "config.json").read_text())
    config["auto_map"] = {"AutoModelForCausalLM": "modeling_other.Other"}
    (model / "config.json").write_text(json.dumps(config))
    return model


def put(owner: HfApi, model: Path) -> str:
    """Return the commit at which the repository holds this model."""
    owner.create_repo(REPO)
    return owner.upload_folder(repo_id=REPO, folder_path=model).oid


@pytest.fixture
def foreign(owner: HfApi, tmp_path: Path) -> str:
    return put(owner, with_code(tiny_llama(tmp_path / "model", layers=1, hidden=16)))


def test_code_of_a_branch_is_refused_with_the_commit_to_name(foreign: str, tmp_path: Path) -> None:
    store = Store(tmp_path / "home")
    with pytest.raises(UntrustedCode) as refused:
        download_source(PinnedSource(Source(repo=REPO), store), store)
    assert "modeling_other.py" in str(refused.value)
    assert f"`revision: {foreign}`" in str(refused.value)
    assert not (tmp_path / "model" / "ran").exists()


def test_code_of_a_commit_that_the_recipe_names_is_taken_and_nothing_is_fetched_twice(
    foreign: str, tmp_path: Path, faults: Faults
) -> None:
    store = Store(tmp_path / "home")
    with pytest.raises(UntrustedCode):
        download_source(PinnedSource(Source(repo=REPO), store), store)
    loaded = len(faults.requests("/resolve/"))
    built = download_source(PinnedSource(Source(repo=REPO, revision=foreign), store), store)
    assert (built.artifact.path / "modeling_other.py").is_file()
    assert len(faults.requests("/resolve/")) == loaded


def test_what_one_recipe_has_agreed_to_another_has_not(foreign: str, tmp_path: Path) -> None:
    store = Store(tmp_path / "home")
    download_source(PinnedSource(Source(repo=REPO, revision=foreign), store), store)
    with pytest.raises(UntrustedCode):
        download_source(PinnedSource(Source(repo=REPO, revision="main"), store), store)


def a_run(home: Path, remote: RemoteStore | None = None) -> RunStore:
    return RunStore(home, RunRecords(home).start("demo"), remote=remote)


def test_code_of_a_download_that_was_freed_needs_the_same_agreement(
    foreign: str, tmp_path: Path
) -> None:
    store = a_run(tmp_path / "home")
    agreed = PinnedSource(Source(repo=REPO, revision=foreign), store)
    download_source(agreed, store)
    assert store.free(str(agreed.key))
    with pytest.raises(UntrustedCode) as refused:
        download_source(PinnedSource(Source(repo=REPO, revision="main"), store), store)
    assert "modeling_other.py" in str(refused.value)
    code = Path(refused.value.next_step.removeprefix("Read it, in ").partition(";")[0])
    assert (code / "modeling_other.py").is_file()
    assert download_source(agreed, store).artifact.freed


def test_code_of_a_download_that_lies_at_the_remote_store_needs_the_same_agreement(
    foreign: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.core.store.run.FETCHED_AT_ONCE_BYTES", 1)
    remote = RemoteStore.open(f"file://{tmp_path}/remote")
    one = a_run(tmp_path / "one", remote)
    download_source(PinnedSource(Source(repo=REPO, revision=foreign), one), one)
    other = a_run(tmp_path / "other", remote)
    with pytest.raises(UntrustedCode, match=r"modeling_other\.py"):
        download_source(PinnedSource(Source(repo=REPO, revision="main"), other), other)
    agreed = PinnedSource(Source(repo=REPO, revision=foreign), other)
    assert download_source(agreed, other).artifact.freed


def test_a_script_that_no_configuration_names_stops_no_run_once_its_model_is_freed(
    owner: HfApi, tmp_path: Path
) -> None:
    model = tiny_llama(tmp_path / "model", layers=1, hidden=16)
    (model / "convert.py").write_text("a script")
    put(owner, model)
    store = a_run(tmp_path / "home")
    branch = PinnedSource(Source(repo=REPO), store)
    assert (download_source(branch, store).artifact.path / "convert.py").is_file()
    assert store.free(str(branch.key))
    assert download_source(branch, store).artifact.freed


def test_whoever_gives_a_directory_has_its_code_already(hub: object, tmp_path: Path) -> None:
    model = with_code(tiny_llama(tmp_path / "model", layers=1, hidden=16))
    store = Store(tmp_path / "home")
    download_source(PinnedSource(Source(directory=model), store), store)
    assert not (model / "ran").exists()


def test_our_own_code_needs_no_commit_but_only_as_it_is_here(owner: HfApi, tmp_path: Path) -> None:
    (edited := tmp_path / "edited").mkdir()
    edit_model(tiny_llama(tmp_path / "plain", layers=1, hidden=16), Edit(), edited)
    put(owner, edited)
    store = Store(tmp_path / "home")
    download_source(PinnedSource(Source(repo=REPO), store), store)
    code = (edited / "modeling_kawan_usaha.py").read_text()
    owner.upload_file(
        path_or_fileobj=f"{code}\nimport this\n".encode(),
        path_in_repo="modeling_kawan_usaha.py",
        repo_id=REPO,
    )
    with pytest.raises(UntrustedCode, match=r"modeling_kawan_usaha\.py"):
        download_source(PinnedSource(Source(repo=REPO), store), store)


def test_a_data_set_that_lists_a_file_outside_of_it_is_refused(
    datasets: str, owner: HfApi, faults: Faults, tmp_path: Path
) -> None:
    owner.create_repo(REPO)
    owner.upload_file(path_or_fileobj=b"[]", path_in_repo="train.jsonl", repo_id=REPO)
    faults.add(Lists("../../evil.jsonl"), "/api/models/.*")  # as the data set is answered for
    with pytest.raises(UnsafeName, match="outside its repository"):
        fetch_conversations(REPO, "main", tmp_path, token=OWNER)
    assert not list(tmp_path.rglob("*.jsonl"))
