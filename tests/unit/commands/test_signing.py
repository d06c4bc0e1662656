"""Signatures on the command line: made by `publish`, asked for by `download` and `deploy`."""

import json
import shutil
from pathlib import Path

import model_signing
import pytest
import yaml

from flows.actions.local_models import local_model
from tasks.core.errors import CorruptArtifact, SignatureRefused
from tasks.core.hub.download.artifact import download_source
from tasks.core.hub.download.pinned import PinnedSource
from tasks.core.keys import stage_key
from tasks.core.preflight.checks import unsigned_when_built
from tasks.core.process.ports import free_port
from tasks.core.recipe import Recipe, Source
from tasks.core.recipe.deploy import Deploy, Gateway
from tasks.core.release.signed_model import require_signed_model
from tasks.core.serving.state.directory import state_directory
from tasks.core.serving.supervision.processes import own_processes
from tasks.core.signing import KEY_VARIABLE
from tasks.core.store import Artifact, Staging, Store
from tests.command_line import Run
from tests.deployments import deployment, put_on_record
from tests.models import tiny_llama
from tests.signing_keys import Pair, make_pair

pytestmark = pytest.mark.usefixtures("home")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_llama(tmp_path_factory.mktemp("models") / "model", layers=1)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return make_pair(tmp_path_factory.mktemp("keys"))


@pytest.fixture
def model(made: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return shutil.copytree(made, tmp_path / "model")


@pytest.fixture
def signed(
    run: Run, model: Path, pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """What `publish --signed-by` leaves in a directory."""
    pair.use(monkeypatch)
    code, out, err = run(
        "publish", model, f"file://{tmp_path}/place", "--signed-by", pair.public, "--json"
    )
    assert code == 0, err
    monkeypatch.delenv(KEY_VARIABLE)
    told = json.loads(out)
    assert told["signature"]["signed_by"] == pair.key.fingerprint
    return Path(told["url"].removeprefix("file://"))


# --- refusals --------------------------------------------------------------------------------


def test_publish_without_the_private_key_is_refused_before_anything_is_made(
    run: Run, model: Path, pair: Pair, tmp_path: Path
) -> None:
    words = ("publish", model, f"file://{tmp_path}/place", "--signed-by", pair.public)
    code, _, err = run(*words)
    assert code == 2
    assert KEY_VARIABLE in err
    assert not (tmp_path / "place").exists()


def test_publish_with_another_private_key_is_refused(
    run: Run, model: Path, pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_pair(tmp_path / "other").use(monkeypatch)
    code, _, err = run("publish", model, f"file://{tmp_path}/p", "--signed-by", pair.public)
    assert code == 2
    assert "does not belong to the public key" in err
    assert not (tmp_path / "p").exists()


@pytest.mark.parametrize("tampered", ["changed", "added", "unsigned", "another key"])
def test_download_and_deploy_refuse_what_was_tampered_with(
    run: Run, signed: Path, pair: Pair, tmp_path: Path, tampered: str
) -> None:
    public = pair.public
    if tampered == "changed":
        weights = signed / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[:-1] + b"\1")
    elif tampered == "added":
        (signed / "chat_template.jinja").write_text("{{ messages }}")
    elif tampered == "unsigned":
        (signed / "model.sig").unlink()
    else:
        public = make_pair(tmp_path / "other").public
    code, _, err = run("download", signed, "out", "--signed-by", public)
    assert code == 1
    assert "next step" in err
    assert not (tmp_path / "out").exists()
    words = ("--signed-by", public, "--device", "cpu", "--port", "18081")
    code, _, err = run("deploy", signed, *words)
    assert code == 1
    assert any(word in err for word in ("not what was signed", "There is no signature", "trusted"))
    assert not (tmp_path / "home" / "serving").exists()


def artifact(home: Path, which: str, pair: Pair | None) -> Artifact:
    def write(staging: Staging) -> None:
        (staging.path / "config.json").write_text(json.dumps({"which": which}))

    key = None if pair is None else pair.key
    return Store(home, key=key).build(stage_key("fuse", 1, {"which": which}), write).artifact


def test_a_link_with_the_name_of_a_signed_artifact_is_looked_at_for_what_it_leads_to(
    pair: Pair, home: Path, tmp_path: Path
) -> None:
    good, evil = artifact(home, "good", pair), artifact(home, "evil", None)
    link = tmp_path / good.path.name
    link.symlink_to(evil.path)
    with pytest.raises(SignatureRefused) as refused, local_model(str(link), pair.public):
        pass
    assert refused.value.where == str(evil.path)


def on_record(home: Path, model: Path, signed_by: Path, *, replaced: Path | None = None) -> None:
    """Put down what `deploy --signed-by` leaves, as after a restart of the machine."""
    state = state_directory(home, "kawan")
    state.root.mkdir(parents=True)
    settings = Deploy(
        device="cpu", load_8bit=False, gateway=Gateway(port=free_port()), signed_by=signed_by
    )
    if replaced is not None:
        earlier = deployment(state, slot="green", model=replaced, settings=settings)
        put_on_record(state, earlier)
        state.slot("green").retire()
    put_on_record(state, deployment(state, build="b2", model=model, settings=settings))


@pytest.mark.parametrize("command", ["start", "rollback"])
def test_what_was_changed_since_it_was_deployed_signed_is_not_started_again(
    run: Run, signed: Path, pair: Pair, home: Path, command: str
) -> None:
    on_record(home, signed, pair.public, replaced=signed)
    weights = signed / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\1")
    code, _, err = run(command)
    assert code == 1
    assert "model.safetensors has other bytes than were signed" in err
    assert not own_processes(state_directory(home, "kawan").root)


def test_what_was_deployed_signed_is_not_started_by_hand_without_the_key(
    run: Run, signed: Path, home: Path, tmp_path: Path
) -> None:
    on_record(home, signed, tmp_path / "gone.pub")
    code, _, err = run("start")
    assert code == 2
    assert "gone.pub" in err
    assert not own_processes(state_directory(home, "kawan").root)


def test_a_public_key_that_is_not_there_is_wrong_usage(run: Run, model: Path) -> None:
    code, _, err = run("download", model, "out", "--signed-by", "none.pub")
    assert code == 2
    assert "none.pub" in err


def test_store_sign_without_a_key_is_wrong_usage(run: Run) -> None:
    code, _, err = run("store", "sign", "merge-12")
    assert code == 2
    assert KEY_VARIABLE in err


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"publish": {"target": "place", "signed_by": "key.pub"}}, KEY_VARIABLE),
        ({"deploy": {"device": "cpu", "signed_by": "none.pub"}}, "none.pub"),
        ({"base": {"directory": "model", "signed_by": "none.pub"}}, "none.pub"),
    ],
)
def test_plan_tells_of_a_key_that_a_stage_would_miss(
    run: Run, model: Path, pair: Pair, tmp_path: Path, *, change: dict[str, object], told: str
) -> None:
    shutil.copy(pair.public, tmp_path / "key.pub")
    recipe = {"name": "r", "base": {"directory": "model"}, "evaluate": {"device": "cpu"}, **change}
    (tmp_path / "r.yaml").write_text(yaml.safe_dump(recipe))
    code, _, err = run("plan", "r.yaml")
    assert code == 2
    assert told in err


def test_it_is_known_beforehand_that_what_is_built_here_would_not_be_served(
    pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = Recipe(deploy=Deploy(signed_by=pair.public))
    assert KEY_VARIABLE in str(unsigned_when_built(recipe))
    other = make_pair(tmp_path)
    other.use(monkeypatch)
    assert other.key.fingerprint in str(unsigned_when_built(recipe))
    pair.use(monkeypatch)
    assert unsigned_when_built(recipe) is None
    assert unsigned_when_built(Recipe(deploy=Deploy())) is None


# --- what works ------------------------------------------------------------------------------


def test_a_signed_download_brings_its_signature_and_the_library_accepts_it(
    run: Run, signed: Path, pair: Pair, tmp_path: Path
) -> None:
    code, out, err = run("download", signed, "out", "--signed-by", pair.public, "--json")
    assert code == 0, err
    assert json.loads(out)["signed_by"] == pair.key.fingerprint
    config = model_signing.verifying.Config().use_elliptic_key_verifier(public_key=pair.public)
    config.verify(tmp_path / "out", tmp_path / "out" / "model.sig")


def test_a_download_that_asks_for_no_signature_takes_none(
    run: Run, signed: Path, tmp_path: Path
) -> None:
    assert run("download", signed, "out")[0] == 0
    assert not (tmp_path / "out" / "model.sig").exists()


def test_a_signed_artifact_is_taken_by_a_link_and_from_within_it(
    pair: Pair, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = artifact(home, "good", pair)
    (tmp_path / "model").symlink_to(good.path)
    with local_model(str(tmp_path / "model"), pair.public) as model:
        assert model.resolve() == good.path.resolve()
    monkeypatch.chdir(good.path)
    with local_model(".", pair.public) as model:
        assert model.resolve() == good.path.resolve()


def test_a_download_of_a_signed_source_is_signed_where_it_lies(
    signed: Path, pair: Pair, home: Path, tmp_path: Path
) -> None:
    """So `start` serves what `deploy OWNER/NAME --signed-by` has served."""
    store = Store(home)
    source = Source(directory=signed, signed_by=pair.public)
    path = download_source(PinnedSource(source, store), store).artifact.path
    require_signed_model(path, pair.trusted, store)
    with pytest.raises(SignatureRefused):
        require_signed_model(path, make_pair(tmp_path / "other").trusted, store)
    weights = path / "model.safetensors"
    weights.chmod(0o644)
    weights.write_bytes(weights.read_bytes()[:-1] + b"\1")
    with pytest.raises(CorruptArtifact):
        require_signed_model(path, pair.trusted, store)


def test_an_artifact_of_the_store_is_signed_by_hand_and_listed_so(
    run: Run, pair: Pair, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(staging: Staging) -> None:
        (staging.path / "config.json").write_text("{}")

    key = stage_key("merge", 1, {})
    Store(home).build(key, write)
    pair.use(monkeypatch)
    code, out, err = run("store", "sign", "merge", "--json")
    assert code == 0, err
    assert json.loads(out) == [{"artifact": str(key), "signed_by": [pair.key.fingerprint]}]
    (row,) = json.loads(run("store", "list", "--json")[1])
    assert row["signed_by"] == [pair.key.fingerprint]
