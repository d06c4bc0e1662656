"""A file of conversations from a data set on the Hub, at a commit."""

from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import hf_hub_download

from tasks.core.errors import HubError, UsageError
from tasks.core.hub.client import TIMEOUT_S, api, endpoint, usable_token
from tasks.core.hub.download.model import require_inside
from tasks.core.hub.errors import translated

_ENDINGS = (".json", ".jsonl")
_USUAL_NAMES = ("conversation.json", "conversations.json", "train.json", "train.jsonl")


@dataclass(frozen=True)
class ResolvedDataSet:
    """A data set on the Hub at one commit, and the names of its files."""

    repo: str
    commit: str
    names: tuple[str, ...]

    def choose(self, name: str | None) -> str:
        """Return which file to take, as `choose_file` does."""
        return choose_file(list(self.names), name, where=f"{endpoint()}/datasets/{self.repo}")


def resolve_data_set(repo: str, revision: str, token: str | None = None) -> ResolvedDataSet:
    """Return the commit that a revision of a data set names now, and its files.

    Raises what `translated` raises, UnsafeName for a listing that leads out of the repository.
    """
    with translated(repo, revision):
        info = api(token).dataset_info(repo, revision=revision, timeout=TIMEOUT_S)
        if info.sha is None:
            raise HubError("The Hub names no commit.", where=repo, found=revision)
        names = tuple(sibling.rfilename for sibling in info.siblings or ())
        require_inside(names, f"{endpoint()}/datasets/{repo} at {revision}")
        return ResolvedDataSet(repo, info.sha, names)


def fetch_file(
    data_set: ResolvedDataSet, name: str | None, into: Path, token: str | None = None
) -> Path:
    """Return the conversation file of a data set, downloaded into a directory.

    Raises what `choose_file` and `translated` raise.
    """
    chosen = data_set.choose(name)
    with translated(data_set.repo, data_set.commit):
        path = hf_hub_download(
            data_set.repo,
            chosen,
            repo_type="dataset",
            revision=data_set.commit,
            local_dir=into,
            endpoint=endpoint(),
            token=usable_token(token) or False,
        )
    return Path(path)


def fetch_conversations(
    repo: str, revision: str, into: Path, name: str | None = None, token: str | None = None
) -> Path:
    """Return the conversation file of a data set, downloaded into a directory of its commit.

    Without a name it is the only JSON file, or the one with a usual name. Raises UsageError when
    none or several remain, and what `translated` raises.
    """
    found = resolve_data_set(repo, revision, token)
    return fetch_file(found, name, into / repo.replace("/", "--") / found.commit, token)


def choose_file(names: list[str], wanted: str | None, where: str) -> str:
    """Return the file to take. Raises UsageError when none or several come into question."""
    candidates = sorted(name for name in names if name.endswith(_ENDINGS))
    if wanted is not None:
        matching = [name for name in names if name == wanted]
    else:
        usual = [name for name in candidates if name.rpartition("/")[2] in _USUAL_NAMES]
        matching = candidates if len(candidates) == 1 else usual
    if len(matching) == 1:
        return matching[0]
    raise UsageError(
        "It is not clear which file of the data set holds the conversations.",
        where=where,
        expected="one JSON file",
        found=", ".join(candidates) or "no file that ends with .json or .jsonl",
        next_step="Name it: --file in a command, `name` in a recipe.",
    )
