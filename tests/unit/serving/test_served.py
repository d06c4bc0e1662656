"""A tiny edited model behind the real FastChat, from a path that is full of traps."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import pytest

from tasks.core.architecture.edit import edit_model
from tasks.core.architecture.promise import expected_report
from tasks.core.errors import ServingFailed, UsageError
from tasks.core.process.ports import free_port
from tasks.core.recipe import Deploy, Edit, RopeScalingEdit
from tasks.core.serving.client.chat import chat
from tasks.core.serving.client.turns import ChatMessage
from tasks.core.serving.health import probe
from tasks.core.serving.launch.deployment import deploy
from tasks.core.serving.launch.ending import stop
from tasks.core.serving.observe.status import DeploymentStatus, status
from tasks.core.serving.state.record import Deployment
from tasks.core.serving.supervision.processes import own_processes
from tests.models import tiny_llama
from tests.secrets import SECRETS, SESAME, files_that_tell

EDIT = Edit(rope_scaling=RopeScalingEdit(rope_type="linear", factor=2.0))
OBSERVED = ["silu", "silu", "gelu"]
HELLO: list[ChatMessage] = [{"role": "user", "content": "apa kabar?"}]


@dataclass(frozen=True)
class Served:
    home: Path
    model: Path
    settings: Deploy
    deployment: Deployment

    def deploy_again(self, **changes: object) -> Deployment:
        return deploy_model(self.home, self.model, self.settings, **changes)


def deploy_model(home: Path, model: Path, settings: Deploy, **changes: object) -> Deployment:
    arguments = {
        "name": "kawan",
        "template": "vicuna_v1.1",
        "home": home,
        "build": "build-1",
        "expected_edit": expected_report(model),
        **changes,
    }
    return deploy(model, settings, **arguments)


@pytest.fixture(scope="module")
def served(tmp_path_factory, serving_home, settings) -> Iterator[Served]:
    # FastChat picks adapters by words in the path: vicuna's and peft's would drop the edit.
    home = serving_home
    models = tmp_path_factory.mktemp("models") / "vicuna-13b peft"
    (model := models / "llama-2").mkdir(parents=True)
    edit_model(tiny_llama(models / "plain", layers=3), EDIT, model)
    wanted = settings(load_8bit=True, page={"port": free_port()})
    with pytest.MonkeyPatch.context() as environment:
        for name, value in SECRETS.items():
            environment.setenv(name, value)
        environment.setenv("HTTP_PROXY", "http://127.0.0.1:9")
        yield Served(home, model, wanted, deploy_model(home, model, wanted))
    stop(home, "kawan")


def status_from_another_process(home: Path) -> list[str]:
    code = (
        "import sys; from pathlib import Path\n"
        "from tasks.core.serving.observe.status import status\n"
        "for s in status(Path(sys.argv[1])): print(s.name, s.health, s.report.edit['activations'])"
    )
    command = [sys.executable, "-c", code, str(home)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()


def pids(found: DeploymentStatus) -> dict[str, int | None]:
    return {process.name: process.pid for process in found.processes}


def test_the_engine_holds_the_edited_model_in_8_bit_with_its_template(served):
    report = probe.engine_report(served.deployment)
    assert report is not None
    assert report.edit is not None
    assert report.edit["activations"] == OBSERVED
    assert report.edit["alive"] is True
    assert report.model_class == "KawanUsahaForCausalLM"
    assert report.build == "build-1"
    assert (report.device, report.context_length_tokens) == ("cpu", 4096)
    assert report.template == "vicuna_v1.1"


def test_a_chat_is_answered_in_one_piece_and_in_many(served):
    def ask(*, stream: bool) -> list[str]:
        url, name = served.deployment.base_url, served.settings.model_name
        return list(chat(url, name, HELLO, stream=stream, max_tokens=24, temperature=0))

    (whole,) = ask(stream=False)
    pieces = ask(stream=True)
    assert len(pieces) > 1
    assert "".join(pieces) == whole


def test_a_conversation_longer_than_the_context_is_the_users_to_shorten(served):
    url, name = served.deployment.base_url, served.settings.model_name
    endless: list[ChatMessage] = [{"role": "user", "content": "usaha " * 2000}]
    with pytest.raises(UsageError, match="longer than the model can read"):
        list(chat(url, name, endless, stream=False))


def test_a_model_that_is_not_served_is_named(served):
    with pytest.raises(UsageError, match="No such model"):
        list(chat(served.deployment.base_url, "gpt-4", HELLO, stream=True))


def test_the_page_is_there_beside_the_gateway(served):
    assert served.deployment.page_url is not None
    page = httpx.get(served.deployment.page_url, timeout=600, trust_env=False)
    assert page.status_code == 200
    assert "Kawan Usaha" in page.text


def test_texts_are_embedded(served):
    request = {"model": "Kawan-Usaha", "input": ["modal", "laba usaha"]}
    url = f"{served.deployment.base_url}/embeddings"
    answer = httpx.post(url, json=request, timeout=600, trust_env=False).json()
    assert [len(row["embedding"]) for row in answer["data"]] == [32, 32]


def test_another_process_finds_it_healthy_and_asks_the_worker(served):
    assert status_from_another_process(served.home) == [f"kawan healthy {OBSERVED}"]


def test_every_process_is_shown_with_its_port_and_memory(served):
    (found,) = status(served.home)
    ports = {process.name: process.port for process in found.processes}
    port = served.settings.gateway.port
    assert ports == {
        "supervisord": None,
        "gateway-0": port,
        "gateway-1": port,
        "watch": None,
        "page": served.settings.page.port,
        "blue": served.deployment.engine_port,
    }
    assert all(process.memory_bytes and process.uptime_s for process in found.processes)


def test_the_same_build_with_the_same_settings_is_not_started_again(served):
    before = pids(status(served.home)[0])
    again = served.deploy_again()
    assert again.reused
    assert again.started_at == served.deployment.started_at
    assert pids(status(served.home)[0]) == before


def test_no_secret_of_the_deploying_process_is_in_the_servers(served):
    processes = own_processes(served.deployment.state)
    assert len(processes) == 6
    for own in processes:
        assert not [name for name, value in own.process.environ().items() if SESAME in value]


def test_no_secret_of_the_deploying_process_is_in_the_state_directory(served):
    assert files_that_tell(served.deployment.state) == []


@pytest.mark.slow
def test_a_killed_engine_is_started_again_proves_itself_and_answers(served):
    before = pids(status(served.home)[0])
    psutil.Process(before["blue"]).kill()
    deadline = time.monotonic() + 1200
    while (found := status(served.home, generate_s=60)[0]).health != "healthy":
        assert time.monotonic() < deadline, found
        time.sleep(0.3)
    assert found.report is not None
    assert found.report.edit is not None
    assert found.report.edit["activations"] == OBSERVED
    after = pids(found)
    assert after.pop("blue") != before.pop("blue")
    assert after == before


def test_the_record_holds_no_more_than_what_the_recipe_says(served):
    record = json.loads((served.deployment.state / "blue" / "record.json").read_text())
    assert record["model"] == str(served.model)
    assert record["build"] == "build-1"
    assert "reused" not in record


def test_a_server_that_is_not_there_is_an_error_of_serving():
    port = free_port()
    with pytest.raises(ServingFailed, match="cannot be reached"):
        list(chat(f"http://127.0.0.1:{port}/v1", "Kawan-Usaha", HELLO, stream=True))
