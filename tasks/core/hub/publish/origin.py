"""Where the weights of a model directory come from, as far as its files say.

Sources are its manifest in the store and those of the artifacts that it was made from, the metadata
of its README.md, and `_name_or_path` of its configuration; a directory named there is read, too.
The name of a directory is a hint only: it can show that a model is LLaMA 1, never that it is not.
Nothing is looked up over the network.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from huggingface_hub.errors import HFValidationError

from tasks.core.errors import NotAModel
from tasks.core.files.foreign import read_whole
from tasks.core.files.yaml_text import read_yaml
from tasks.core.home import home
from tasks.core.hub.private_api import REGEX_YAML_BLOCK, validate_repo_id
from tasks.core.model.config import OUR_MODEL_TYPE, read_config
from tasks.core.store import Manifest, Store
from tasks.core.store.manifest import freed_place, manifest_of

_SAYS_NOTHING = ("", "none", "other", "unknown")
_LLAMA = ("llama", OUR_MODEL_TYPE)
_WEIGHTS_OF = ("base", "delta", "model")
"""The inputs of a stage that are models; its data and adapters are not."""

T = TypeVar("T")


@dataclass(frozen=True)
class Repo:
    """A repository that the weights were taken from, and its commit where that is known."""

    name: str
    commit: str | None = None


@dataclass(frozen=True)
class WeightsOrigin:
    """What is known of where weights come from.

    names are those of all repositories and directories behind the weights; licenses are what their
    cards say, as the Hub's identifiers. is_known means that every branch of the lineage has a
    repository or a licence.
    """

    names: tuple[str, ...] = ()
    licenses: tuple[str, ...] = ()
    repos: tuple[Repo, ...] = ()
    is_llama: bool = False
    is_known: bool = False

    @classmethod
    def of_all(cls, parts: Sequence["WeightsOrigin"]) -> "WeightsOrigin":
        """Return the origin of weights that were made from all of these."""
        return cls(
            names=_unique(name for part in parts for name in part.names),
            licenses=_unique(name for part in parts for name in part.licenses),
            repos=_unique(repo for part in parts for repo in part.repos),
            is_llama=any(part.is_llama for part in parts),
            is_known=bool(parts) and all(part.is_known for part in parts),
        )


def origin_of(model: Path) -> WeightsOrigin:
    """Return what the files of a model directory, and of those behind it, say of its origin."""
    return _origin_of(model, ())


def _origin_of(model: Path, seen: tuple[Path, ...]) -> WeightsOrigin:
    place = model.resolve()
    if not place.is_dir():
        place = freed_place(place)
    if place in seen or not place.is_dir():
        return WeightsOrigin()
    seen = (*seen, place)
    said = _said_by_its_files(place, seen)
    manifest = manifest_of(place)
    if manifest is None:
        return said
    made_from = _made_from(place, manifest, seen)
    # A stage's artifact may carry the card of one input, which says nothing about the others.
    is_known = made_from.is_known or (said.is_known and not manifest.inputs)
    return replace(WeightsOrigin.of_all([said, made_from]), is_known=is_known)


def _said_by_its_files(model: Path, seen: tuple[Path, ...]) -> WeightsOrigin:
    card, config = _card_metadata(model), _config(model)
    licenses = [*_listed(card.get("license")), *_listed(card.get("license_name"))]
    named = [*_listed(card.get("base_model")), *_listed(config.get("_name_or_path"))]
    places = {name: model / name for name in named if _is_directory(model / name)}
    behind = [_origin_of(place, seen) for place in places.values()]
    repos = [Repo(name) for name in named if name not in places and _is_repo(name)]
    speaks = any(license.lower() not in _SAYS_NOTHING for license in licenses)
    return WeightsOrigin(
        names=_unique([model.name, *named, *(name for one in behind for name in one.names)]),
        licenses=_unique([*licenses, *(name for one in behind for name in one.licenses)]),
        repos=_unique([*repos, *(repo for one in behind for repo in one.repos)]),
        is_llama=str(config.get("model_type", "")).lower() in _LLAMA,
        is_known=speaks or bool(repos) or any(one.is_known for one in behind),
    )


def _made_from(model: Path, manifest: Manifest, seen: tuple[Path, ...]) -> WeightsOrigin:
    """Return the origin of an artifact's inputs; for a download, the repository itself."""
    params = manifest.params if isinstance(manifest.params, dict) else {}
    repo, commit = params.get("repo"), params.get("commit")
    if isinstance(repo, str):
        known = Repo(repo, commit if isinstance(commit, str) else None)
        return WeightsOrigin(names=(repo,), repos=(known,), is_known=True)
    directory = manifest.facts.get("directory")
    names = (directory,) if isinstance(directory, str) else ()
    artifacts = _artifacts_beside(model)
    parts = [
        _origin_of(artifacts[digest], seen) if digest in artifacts else WeightsOrigin()
        for role, digest in manifest.inputs.items()
        if role in _WEIGHTS_OF
    ]
    return WeightsOrigin.of_all([WeightsOrigin(names=names, is_known=bool(parts)), *parts])


def _artifacts_beside(model: Path) -> dict[str, Path]:
    """Return the artifacts of the model's own store and of this home, by content digest."""
    stores = [*model.parents[1:3], home()]  # a freed artifact lies one directory deeper
    return {
        artifact.digest: artifact.path
        for place in stores
        if (place / "store").is_dir()
        for artifact in (*Store(place).freed_artifacts(), *Store(place).artifacts())
    }


def _config(model: Path) -> Mapping[str, object]:
    try:
        return read_config(model)
    except NotAModel:
        return {}


def _card_metadata(model: Path) -> Mapping[str, object]:
    """Return the metadata at the head of README.md; empty when it has none that can be read."""
    try:
        block = REGEX_YAML_BLOCK.search(read_whole(model / "README.md").decode())
        metadata = read_yaml(block[2])[0] if block else None
    except (FileNotFoundError, ValueError):  # NotYaml, and what is no UTF-8, are ValueErrors
        return {}
    return metadata if isinstance(metadata, dict) else {}


def _is_directory(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # no file can have this name
        return False


def _is_repo(name: str) -> bool:
    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return name.count("/") == 1


def _listed(value: object) -> Iterator[str]:
    for item in value if isinstance(value, list) else [value]:
        if isinstance(item, str) and item.strip():
            yield item.strip()


def _unique(items: Iterable[T]) -> tuple[T, ...]:
    return tuple(dict.fromkeys(items))
