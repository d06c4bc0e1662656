"""The whole recipe on a tiny model: Hub, merge, edit, evaluation, publishing, FastChat, chat."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from huggingface_hub import HfApi
from prefect.testing.utilities import prefect_test_harness

from flows.lifecycle import rebuild
from flows.report import RebuildReport
from tasks.core.hub.embedded.server import running_hub
from tasks.core.process.ports import free_port
from tasks.core.recipe import (
    ActivationEdit,
    Base,
    Delta,
    Deploy,
    Edit,
    Evaluate,
    Gate,
    Publish,
    Recipe,
)
from tasks.core.recipe.deploy import Gateway
from tasks.core.serving.chat import chat
from tasks.core.serving.deployment import stop
from tasks.core.serving.record import Deployment
from tasks.core.serving.state import read_deployment, state_directory
from tests.models import tiny_delta, tiny_llama

COMMAND = str(Path(sys.executable).with_name("kawan-usaha"))
ACTIVATIONS = ["silu", "silu", "gelu"]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Recipe, Path]]:
    """A Hub with base and delta, a home, a Prefect server, and the recipe."""
    root = tmp_path_factory.mktemp("e2e")
    tiny_llama(root / "base", seed=1, sharded=True)
    tiny_delta(root / "base", tiny_llama(root / "target", seed=2), root / "delta")
    turns = [{"from": "human", "value": "Halo?"}, {"from": "gpt", "value": "Halo juga."}]
    (root / "held_out.json").write_text(json.dumps([{"id": "a", "conversations": turns}]))
    (root / "prompts.json").write_text(json.dumps([{"id": "p", "prompt": "Apa itu NIB?"}]))
    recipe = Recipe(
        name="e2e",
        base=Base(repo="kawan-usaha/base"),
        delta=Delta(repo="kawan-usaha/delta"),
        edit=Edit(activations=(ActivationEdit(layers=(-1,), activation="gelu"),)),
        evaluate=Evaluate(
            conversations=root / "held_out.json",
            prompts=root / "prompts.json",
            max_new_tokens=4,
            device="cpu",
            gate=Gate(max_perplexity_ratio=2.0),
        ),
        publish=Publish(repo="kawan-usaha/released", license="apache-2.0"),
        deploy=Deploy(
            device="cpu",
            load_8bit=True,
            gateway=Gateway(port=free_port()),
        ),
    )
    with (
        pytest.MonkeyPatch.context() as patch,
        running_hub(root / "hub") as hub,
        prefect_test_harness(server_startup_timeout=600),
    ):
        patch.setenv("KAWAN_USAHA_HOME", str(root / "home"))
        patch.setenv("HF_ENDPOINT", hub.url)
        patch.setenv("HF_TOKEN", hub.token)
        client = HfApi(endpoint=hub.url, token=hub.token)
        for name in ("base", "delta"):
            client.create_repo(f"kawan-usaha/{name}")
            client.upload_folder(repo_id=f"kawan-usaha/{name}", folder_path=root / name)
        try:
            yield recipe, root / "home"
        finally:
            if state_directory(root / "home", "e2e").root.exists():
                stop(root / "home", "e2e")


def run(recipe: Recipe) -> RebuildReport:
    report = rebuild(recipe, return_state=True).result()
    assert isinstance(report, RebuildReport)
    return report


@pytest.fixture(scope="module")
def report(world: tuple[Recipe, Path]) -> RebuildReport:
    return run(world[0])


@pytest.fixture
def deployment(world: tuple[Recipe, Path], report: RebuildReport) -> Deployment:
    found = read_deployment(state_directory(world[1], "e2e"))
    assert found is not None
    return found


def test_every_stage_ran(report: RebuildReport) -> None:
    stages = [stage.stage for stage in report.stages]
    assert stages == ["base", "delta", "merge", "edit", "evaluate", "publish", "deploy"]
    assert not any(stage.cached for stage in report.stages)


def test_running_worker_shows_gelu_in_its_last_layer(deployment: Deployment) -> None:
    answer = httpx.get(f"{deployment.engine_url}/kawan_usaha/report", trust_env=False)
    edit = answer.json()["edit"]
    assert edit["activations"] == ACTIVATIONS
    assert edit["alive"] is True


@pytest.mark.parametrize("stream", [True, False])
def test_chat_is_answered(deployment: Deployment, stream: bool) -> None:
    messages = [{"role": "user", "content": "Apa kabar?"}]
    pieces = chat(
        deployment.base_url, "Kawan-Usaha", messages, stream=stream, max_tokens=8, temperature=0
    )
    assert "".join(pieces)


LOAD = """
import json, sys
from transformers import AutoModelForCausalLM, AutoTokenizer
name = sys.argv[1]
model = AutoModelForCausalLM.from_pretrained(name, trust_remote_code=True)
AutoTokenizer.from_pretrained(name, trust_remote_code=True)
print(json.dumps([str(layer.mlp.act_fn) for layer in model.model.layers]))
"""


def test_published_model_loads_from_a_fresh_cache_with_its_edit_alive(
    report: RebuildReport, tmp_path: Path
) -> None:
    env = {**os.environ, "HF_HOME": str(tmp_path), "HF_MODULES_CACHE": str(tmp_path / "modules")}
    child = subprocess.run(
        [sys.executable, "-c", LOAD, "kawan-usaha/released"],
        env=env,
        capture_output=True,
        text=True,
        check=True,
    )
    shown = json.loads(child.stdout.splitlines()[-1])
    assert [word.removesuffix("()").lower()[:4] for word in shown] == ACTIVATIONS


def test_model_card_tells_lineage_edit_and_checksums(report: RebuildReport) -> None:
    client = HfApi(endpoint=os.environ["HF_ENDPOINT"], token=os.environ["HF_TOKEN"])
    card = Path(client.hf_hub_download("kawan-usaha/released", "README.md")).read_text()
    base, edit = report.stages[0], report.stages[3]
    assert str(base.facts.get("revision")) == "main"
    assert "kawan-usaha/base" in card
    assert edit.digest in card
    assert "activation of layer 2" in card
    assert "trust_remote_code=True" in card
    assert "vicuna_v1.1" in card


def test_status_and_stop_find_the_servers_from_another_process(
    world: tuple[Recipe, Path], report: RebuildReport, deployment: Deployment
) -> None:
    def kawan_usaha(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([COMMAND, *words], capture_output=True, text=True, check=False)

    shown = kawan_usaha("status")
    assert shown.returncode == 0, shown.stderr
    assert "layers 0-1 silu, layer 2 gelu" in shown.stdout

    second = run(world[0])
    assert all(stage.cached for stage in second.stages)

    assert kawan_usaha("stop", "e2e").returncode == 0
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{deployment.base_url}/models", trust_env=False)
    assert kawan_usaha("status").stdout.strip() == "Nothing is deployed."
