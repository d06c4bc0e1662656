"""While a command works on an artifact of the store, `store prune` cannot take it away."""

import shutil
from pathlib import Path

import pytest

from tasks.core.errors import LockBusy
from tasks.core.keys import stage_key
from tasks.core.store import Staging, Store
from tests.command_line import kawan_usaha
from tests.machines import record_speed
from tests.models import tiny_llama

WORK = {
    "download ARTIFACT out": "flows.actions.download.copy_directory",
    "merge other ARTIFACT out": "flows.actions.merge.merge_delta",
    "edit ARTIFACT out --activation gelu": "flows.actions.edit.edit_model",
    "inspect ARTIFACT": "flows.actions.inspect.inspect_model",
    "fuse other ARTIFACT out": "flows.actions.fuse.fuse_adapter",
    "finetune other ARTIFACT/data.json out --device cpu": "flows.actions.finetune."
    "train_down_the_ladder",
    "finetune ARTIFACT data.json out --dry-run": "flows.actions.finetune.planned_training",
    "evaluate other --against ARTIFACT --device cpu": "flows.actions.evaluate.evaluate_models",
    "publish ARTIFACT file:///nowhere": "flows.actions.publish.card_of_directory",
    "deploy ARTIFACT --device cpu": "flows.actions.deploy.deploy",
    "data show data.json --record 1 --tokenizer ARTIFACT": "flows.actions.encoder.load_tokenizer",
    "store verify": "tasks.core.store.store.Store.verify",
}
"""Each command, and the function that does its work, where the command's action calls it."""

_TURNS = '[{"from": "human", "value": "Halo?"}, {"from": "gpt", "value": "Halo."}]'
DATA = f'[{{"id": "a", "conversations": {_TURNS}}}]'


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_llama(tmp_path_factory.mktemp("model") / "other")


@pytest.fixture
def home(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("KAWAN_USAHA_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    record_speed(tmp_path / "home")
    shutil.copytree(model, tmp_path / "other")
    (tmp_path / "data.json").write_text(DATA)
    return tmp_path / "home"


@pytest.mark.parametrize("words", WORK)
def test_prune_is_refused_while_a_command_works(
    words: str,
    model: Path,
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def write(staging: Staging) -> None:
        shutil.copytree(model, staging.path, dirs_exist_ok=True)
        (staging.path / "data.json").write_text(DATA)

    artifact = Store(home).build(stage_key("merge", 1, {}), write).artifact
    refused: list[LockBusy] = []

    def work(*_: object, **__: object) -> None:
        with pytest.raises(LockBusy) as caught, Store(home).unused():
            raise AssertionError("prune could take the artifact away")
        refused.append(caught.value)
        raise RuntimeError

    monkeypatch.setattr(WORK[words], work)
    named = [word.replace("ARTIFACT", str(artifact.path)) for word in words.split()]
    code, _, err = kawan_usaha(monkeypatch, capsys, *named)
    assert (code, "RuntimeError" in err) == (1, True)
    (error,) = refused
    assert f"kawan-usaha {words.split(maxsplit=1)[0]}" in str(error.found)
    with Store(home).unused():
        pass  # the command has ended, and with it its lock
