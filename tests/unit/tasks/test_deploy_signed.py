"""A recipe that asks for a signature serves nothing else, and reads all of it before it starts."""

import shutil
from pathlib import Path

import pytest

from tasks.core.errors import CorruptArtifact, SignatureRefused
from tasks.core.keys import stage_key
from tasks.core.process.ports import free_port
from tasks.core.recipe.deploy import Deploy, Gateway
from tasks.core.serving.state.directory import state_directory
from tasks.core.serving.supervision.processes import own_processes
from tasks.core.store import Built, Staging, Store
from tasks.deploy import deploy
from tasks.stage_result import StageResult
from tests.models import tiny_llama
from tests.signing_keys import Pair, make_pair

KEY = stage_key("merge", 1, {})


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_llama(tmp_path_factory.mktemp("models") / "model", layers=1)


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    return make_pair(tmp_path / "keys")


def build(home: Path, made: Path, pair: Pair | None) -> Built:
    def write(staging: Staging) -> None:
        shutil.copytree(made, staging.path, dirs_exist_ok=True)

    return Store(home, key=None if pair is None else pair.key).build(KEY, write)


def deployed(built: Built, signed_by: Path) -> None:
    """Work as the task does, outside of a run."""
    settings = Deploy(
        device="cpu", load_8bit=False, gateway=Gateway(port=free_port()), signed_by=signed_by
    )
    result = StageResult.of(built, "merge")
    deploy.fn.__wrapped__(result, settings, "kawan", "vicuna_v1.1", Path("none.json"))  # type: ignore[attr-defined]


def nothing_was_started(home: Path) -> bool:
    return not own_processes(state_directory(home, "kawan").root)


def test_an_artifact_that_nobody_has_signed_is_not_served(
    home: Path, made: Path, pair: Pair
) -> None:
    built = build(home, made, None)
    with pytest.raises(SignatureRefused, match="not signed by the required key"):
        deployed(built, pair.public)
    assert nothing_was_started(home)


def test_an_artifact_that_another_key_has_signed_is_not_served(
    home: Path, made: Path, pair: Pair, tmp_path: Path
) -> None:
    other = make_pair(tmp_path / "other")
    built = build(home, made, other)
    with pytest.raises(SignatureRefused) as refused:
        deployed(built, pair.public)
    assert refused.value.found == other.key.fingerprint
    assert nothing_was_started(home)


def test_a_flipped_bit_in_signed_weights_is_found_before_anything_is_started(
    home: Path, made: Path, pair: Pair
) -> None:
    built = build(home, made, pair)
    weights = built.artifact.path / "model.safetensors"
    weights.chmod(0o644)
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(CorruptArtifact, match="It was set aside"):
        deployed(built, pair.public)
    assert nothing_was_started(home)
    assert Store(home).find(KEY) is None  # so that the next run makes it again


@pytest.mark.parametrize("fault", ["cut short", "missing"])
def test_weights_that_are_not_whole_are_set_aside_once_nobody_reads_them(
    home: Path, made: Path, pair: Pair, fault: str
) -> None:
    """The stage itself holds the lock that setting aside takes, and would wait for itself."""
    built = build(home, made, pair)
    weights = built.artifact.path / "model.safetensors"
    if fault == "missing":
        weights.unlink()
    else:
        weights.chmod(0o644)
        weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(CorruptArtifact, match=r"model\.safetensors"):
        deployed(built, pair.public)
    assert nothing_was_started(home)
    assert not built.artifact.path.exists()


def test_a_manifest_that_was_changed_after_it_was_signed_is_not_served(
    home: Path, made: Path, pair: Pair
) -> None:
    built = build(home, made, pair)
    manifest = built.artifact.path / "manifest.json"
    manifest.chmod(0o644)
    manifest.write_text(manifest.read_text().replace('"facts":{}', '"facts": {}') + " ")
    with pytest.raises(SignatureRefused, match="not what was signed"):
        deployed(built, pair.public)
    assert nothing_was_started(home)
