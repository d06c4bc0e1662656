"""A source that must be signed: what was tampered with is refused, and nothing of it is kept."""

import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

from tasks.core.demo.hub import running_hub
from tasks.core.errors import KawanUsahaError, SignatureRefused, SigningKeyUnusable
from tasks.core.files.digests import digest_of
from tasks.core.hub.download.artifact import download_source
from tasks.core.hub.download.pinned import PinnedSource
from tasks.core.hub.download.sources import Sources
from tasks.core.hub.source_signature import require_signed_directory, require_sources_signed
from tasks.core.recipe import Base, Recipe, Source
from tasks.core.signing import signature_over
from tasks.core.store import Built, Store
from tests.hub_faults import Faults
from tests.signing_keys import Pair, make_pair
from tests.unit.hub.conftest import ACCOUNTS, OWNER, REPO

SIGNATURE = "model.sig"


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return make_pair(tmp_path_factory.mktemp("keys"))


@dataclass(frozen=True)
class World:
    """A signed repository that somebody can tamper with, and the machine that fetches it."""

    owner: HfApi
    branch: str
    pair: Pair
    store: Store
    model: Path

    def commit(self, **files: bytes | None) -> None:
        """Change files of the repository by name; None removes one."""
        operations = [
            CommitOperationDelete(name, is_folder=False)
            if content is None
            else CommitOperationAdd(name, content)
            for name, content in files.items()
        ]
        self.owner.create_commit(REPO, operations, commit_message="change", revision=self.branch)

    @property
    def source(self) -> Source:
        return self.asking(self.pair.public)

    def asking(self, signed_by: Path | None) -> Source:
        """Return the repository as a source that must be signed with a key, or need not be."""
        return Source(repo=REPO, revision=self.branch, signed_by=signed_by)

    def download(self, source: Source | None = None) -> Built:
        return download_source(PinnedSource(source or self.source, self.store), self.store)


def signature_of(model: Path, pair: Pair) -> bytes:
    files = {
        path.relative_to(model).as_posix(): digest_of(path).sha256
        for path in model.rglob("*")
        if path.is_file() and path.name != SIGNATURE
    }
    return signature_over("tiny", files, pair.key)


@pytest.fixture(scope="module")
def faults() -> Faults:
    return Faults()


@pytest.fixture(scope="module")
def origin(
    tmp_path_factory: pytest.TempPathFactory, faults: Faults, model: Path, pair: Pair
) -> Iterator[HfApi]:
    """A repository with a signed model, on one Hub for all tests: each changes its own branch."""
    root = tmp_path_factory.mktemp("hub")
    with (
        running_hub(root, tokens=ACCOUNTS, middleware=faults.around) as address,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("HF_ENDPOINT", address.url)
        patch.delenv("HF_TOKEN", raising=False)
        owner = HfApi(endpoint=address.url, token=OWNER)
        owner.create_repo(REPO)
        owner.upload_folder(repo_id=REPO, folder_path=model)
        owner.upload_file(
            repo_id=REPO, path_in_repo=SIGNATURE, path_or_fileobj=signature_of(model, pair)
        )
        yield owner


@pytest.fixture
def world(origin: HfApi, model: Path, tmp_path: Path, pair: Pair) -> World:
    branch = f"test-{uuid.uuid4().hex}"
    origin.create_branch(REPO, branch=branch)
    return World(origin, branch, pair, Store(tmp_path / "home"), model)


def shard_of(model: Path) -> str:
    return sorted(path.name for path in model.glob("model-*.safetensors"))[1]


def flipped(content: bytes) -> bytes:
    return content[:-1] + bytes([content[-1] ^ 1])


Tamper = Callable[[World], None]


def flip_a_bit(world: World) -> None:
    shard = shard_of(world.model)
    world.commit(**{shard: flipped((world.model / shard).read_bytes())})


def change_a_small_file(world: World) -> None:
    config = json.loads((world.model / "config.json").read_text())
    world.commit(**{"config.json": json.dumps({**config, "rope_theta": 1.0}).encode()})


def add_a_file(world: World) -> None:
    world.commit(**{"chat_template.jinja": b"{{ messages }}"})


def remove_a_file(world: World) -> None:
    world.commit(**{"generation_config.json": None})


def remove_the_signature(world: World) -> None:
    world.commit(**{SIGNATURE: None})


def cut_the_signature_off(world: World) -> None:
    world.commit(**{SIGNATURE: signature_of(world.model, world.pair)[:-40]})


def take_another_models_signature(world: World) -> None:
    files = {"config.json": "00" * 32, "README.md": "11" * 32}
    world.commit(**{SIGNATURE: signature_over("another", files, world.pair.key)})


TAMPERED: dict[Tamper, str] = {
    flip_a_bit: "model-00002-of-.* has other bytes than were signed",
    change_a_small_file: "config.json has other bytes than were signed",
    add_a_file: "chat_template.jinja was not signed",
    remove_a_file: "generation_config.json is missing",
    remove_the_signature: "There is no signature",
    cut_the_signature_off: "signature file is not valid",
    take_another_models_signature: "was not signed",
}


@pytest.mark.parametrize("tamper", TAMPERED, ids=lambda tamper: tamper.__name__)
def test_what_was_tampered_with_on_the_hub_is_refused_and_nothing_is_kept(
    world: World, tamper: Tamper
) -> None:
    tamper(world)
    with pytest.raises(SignatureRefused, match=TAMPERED[tamper]):
        world.download()
    assert list(world.store.artifacts()) == []
    world.download(world.asking(None))  # whoever asks for no signature takes it as it is


@pytest.mark.parametrize(
    "tamper", [flip_a_bit, add_a_file, remove_the_signature], ids=lambda tamper: tamper.__name__
)
def test_what_the_hub_announces_is_refused_before_a_weight_is_fetched(
    world: World, faults: Faults, tamper: Tamper
) -> None:
    tamper(world)
    before = len(faults.served)
    with pytest.raises(SignatureRefused):
        world.download()
    asked = [one.path for one in faults.served[before:] if "/resolve/" in one.path]
    assert [path for path in asked if ".safetensors" in path] == []
    recipe = Recipe(base=Base(**world.source.model_dump()))
    with pytest.raises(SignatureRefused):
        require_sources_signed(Sources.of(recipe, world.store.root.parent))


def test_a_huge_signature_is_refused_before_it_is_fetched(world: World, faults: Faults) -> None:
    world.commit(**{SIGNATURE: b" " * (17 << 20)})
    before = len(faults.served)
    with pytest.raises(SignatureRefused, match="too large") as refused:
        world.download()
    assert refused.value.found == f"{17 << 20} bytes"
    asked = [one for one in faults.served[before:] if one.path.endswith(SIGNATURE)]
    assert {one.method for one in asked} == {"HEAD"}


def test_a_source_of_another_key_is_refused(world: World, tmp_path: Path) -> None:
    other = make_pair(tmp_path / "other")
    with pytest.raises(SignatureRefused, match="with a key that is not trusted"):
        world.download(world.asking(other.public))


def test_a_download_that_was_made_without_asking_is_looked_at_when_it_is_asked_for(
    world: World,
) -> None:
    flip_a_bit(world)
    world.download(world.asking(None))
    with pytest.raises(SignatureRefused, match="other bytes"):
        world.download()


def test_a_public_key_that_is_not_there_is_told(world: World, tmp_path: Path) -> None:
    with pytest.raises(SigningKeyUnusable):
        world.download(world.asking(tmp_path / "none.pub"))


def test_a_signed_source_is_taken_and_its_artifact_is_that_of_an_unsigned_one(
    world: World, tmp_path: Path
) -> None:
    signed = world.download()
    other = Store(tmp_path / "other")
    plain = download_source(PinnedSource(world.asking(None), other), other)
    assert signed.artifact.key == plain.artifact.key
    assert signed.artifact.digest == plain.artifact.digest
    assert SIGNATURE not in signed.artifact.manifest.files


def test_a_download_that_was_found_signed_needs_the_hub_no_more(
    world: World, faults: Faults
) -> None:
    commit = world.owner.model_info(REPO, revision=world.branch).sha
    source = world.source.model_copy(update={"revision": commit})
    world.download(source)
    asked = len(faults.served)
    assert world.download(source).cached
    assert len(faults.served) == asked


# --- directories -----------------------------------------------------------------------------


@pytest.fixture
def directory(model: Path, pair: Pair, tmp_path: Path) -> Path:
    path = shutil.copytree(model, tmp_path / "signed")
    (path / SIGNATURE).write_bytes(signature_of(path, pair))
    return path


def test_a_directory_as_a_source_is_held_against_its_signature(
    directory: Path, pair: Pair, tmp_path: Path
) -> None:
    store = Store(tmp_path / "home")
    source = Source(directory=directory, signed_by=pair.public)
    assert not download_source(PinnedSource(source, store), store).cached
    shard = directory / shard_of(directory)
    shard.write_bytes(flipped(shard.read_bytes()))
    other = Store(tmp_path / "other")
    with pytest.raises(SignatureRefused, match="other bytes"):
        download_source(PinnedSource(source, other), other)
    assert list(other.artifacts()) == []


@pytest.mark.parametrize(
    ("name", "content", "found"),
    [
        ("evil.py", b"import os", "evil.py was not signed"),
        ("sub/evil.json", b"{}", "sub/evil.json was not signed"),
        ("config.json", b"{}", "config.json has other bytes"),
        ("tokenizer.json", None, "tokenizer.json is missing"),
    ],
)
def test_a_directory_that_was_tampered_with_is_refused(
    directory: Path, pair: Pair, name: str, content: bytes | None, found: str
) -> None:
    path = directory / name
    path.parent.mkdir(exist_ok=True)
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)
    with pytest.raises(SignatureRefused, match="not what was signed") as refused:
        require_signed_directory(directory, pair.trusted)
    assert found in str(refused.value.found)


def test_a_directory_without_a_signature_is_refused_with_the_next_step(
    directory: Path, pair: Pair
) -> None:
    (directory / SIGNATURE).unlink()
    with pytest.raises(SignatureRefused, match="There is no signature") as refused:
        require_signed_directory(directory, pair.trusted)
    assert isinstance(refused.value, KawanUsahaError)
    assert "publish MODEL PLACE --signed-by" in str(refused.value.next_step)


@pytest.mark.parametrize("outside", [False, True])
def test_a_link_to_code_that_was_not_signed_is_refused(
    directory: Path, pair: Pair, tmp_path: Path, *, outside: bool
) -> None:
    """transformers runs custom_generate/generate.py through the link."""
    code = tmp_path / "outside" if outside else directory / ".x"
    code.mkdir()
    (code / "generate.py").write_text("def generate(model): ...")
    link = directory / "custom_generate"
    link.symlink_to(code if outside else code.name)
    assert (link / "generate.py").is_file()
    with pytest.raises(SignatureRefused, match="was not signed") as refused:
        require_signed_directory(directory, pair.trusted)
    assert refused.value.found == "custom_generate"


def test_a_link_to_weights_is_refused_however_deep_it_lies(
    directory: Path, pair: Pair, tmp_path: Path
) -> None:
    (weights := tmp_path / "weights").mkdir()
    (directory / "sub").mkdir()
    (directory / "sub" / "w").symlink_to(weights)
    with pytest.raises(SignatureRefused, match="was not signed") as refused:
        require_signed_directory(directory, pair.trusted)
    assert refused.value.found == "sub/w"


def test_a_huge_signature_in_a_directory_is_refused_unread(directory: Path, pair: Pair) -> None:
    with (directory / SIGNATURE).open("r+b") as file:
        file.truncate(1 << 40)
    with pytest.raises(SignatureRefused, match="too large"):
        require_signed_directory(directory, pair.trusted)


def test_a_signature_that_is_a_pipe_is_refused_and_not_waited_for(
    directory: Path, pair: Pair
) -> None:
    (directory / SIGNATURE).unlink()
    os.mkfifo(directory / SIGNATURE)
    with pytest.raises(SignatureRefused, match="a stream or a device"):
        require_signed_directory(directory, pair.trusted)


def test_a_signed_directory_passes_with_what_git_and_a_download_leave_there(
    directory: Path, pair: Pair
) -> None:
    (directory / ".gitattributes").write_text("* lfs")
    (directory / ".cache").mkdir()
    (directory / ".cache" / "x.lock").touch()
    (directory / ".cache" / "y").symlink_to(directory / ".cache")
    config = (directory / "config.json").rename(directory.parent / "blob")
    (directory / "config.json").symlink_to(config)  # as in the Hub's cache
    assert require_signed_directory(directory, pair.trusted).key == pair.trusted[0]
