"""A running embedded Hub with a few accounts, and a tiny model on it."""

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import uvicorn
from fastapi import FastAPI, Request, Response
from huggingface_hub import HfApi

from tasks.core.demo.hub import HubAccount, HubAddress, running_hub
from tests.hub_faults import Faults
from tests.models import tiny_llama

OWNER, READER, STRANGER, GUEST = "hf_owner", "hf_reader", "hf_stranger", "hf_guest"
REPO = "warung/model"
ACCOUNTS = {
    OWNER: HubAccount("warung", organizations=("koperasi",)),
    READER: HubAccount("warung", role="read"),
    STRANGER: HubAccount("orang-lain"),
    GUEST: HubAccount("tamu", role="read", accepted_terms=(REPO,)),
}


@pytest.fixture
def faults() -> Faults:
    return Faults()


@pytest.fixture
def hub(tmp_path: Path, faults: Faults, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubAddress]:
    with running_hub(tmp_path / "hub", tokens=ACCOUNTS, middleware=faults.around) as address:
        monkeypatch.setenv("HF_ENDPOINT", address.url)
        monkeypatch.delenv("HF_TOKEN", raising=False)
        yield address


@pytest.fixture
def owner(hub: HubAddress) -> HfApi:
    return HfApi(endpoint=hub.url, token=OWNER)


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model directory in five shards, with files beside it that are not part of the model."""
    path = tiny_llama(tmp_path_factory.mktemp("models") / "tiny", sharded=True)
    (path / "README.md").write_text("A tiny model.\n")
    (path / "consolidated.00.pth").write_bytes(b"the same weights once more")
    return path


@pytest.fixture
def published(owner: HfApi, model: Path) -> str:
    """A repository on the Hub that holds the model."""
    owner.create_repo(REPO)
    owner.upload_folder(repo_id=REPO, folder_path=model)
    return REPO


@pytest.fixture
def datasets(hub: HubAddress, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Answer for data sets with what the embedded Hub answers for models of the same name."""
    app = FastAPI()

    @app.api_route("/{path:path}", methods=["GET", "HEAD"])
    async def passed_on(path: str, request: Request) -> Response:
        target = path.replace("datasets/", "models/" if path.startswith("api/") else "", 1)
        headers = {k: v for k, v in request.headers.items() if k != "host"}
        async with httpx.AsyncClient() as client:
            said = await client.request(
                request.method, f"{hub.url}/{target}", headers=headers, params=request.query_params
            )
        dropped = ("transfer-encoding", "content-encoding")
        kept = {k: v for k, v in said.headers.items() if k not in dropped}
        return Response(said.content, said.status_code, kept)

    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="error"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    monkeypatch.setenv("HF_ENDPOINT", url)
    yield url
    server.should_exit = True
    thread.join()
