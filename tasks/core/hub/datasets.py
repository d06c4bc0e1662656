"""A conversation file out of a data set of the Hub, at a commit."""

from pathlib import Path

from huggingface_hub import hf_hub_download

from tasks.core.errors import HubError, UsageError
from tasks.core.hub.client import TIMEOUT_S, api, endpoint, translated, usable_token

_ENDINGS = (".json", ".jsonl")
_USUAL_NAMES = ("conversation.json", "conversations.json", "train.json", "train.jsonl")


def fetch_conversations(
    repo: str, revision: str, into: Path, name: str | None = None, token: str | None = None
) -> Path:
    """Return the conversation file of a data set, downloaded into a directory of its commit.

    Without a name it is the only JSON file, or the one with a usual name. Raises UsageError when
    that leaves a choice or nothing, and what `translated` raises when the Hub does not give it.
    """
    with translated(repo, revision):
        info = api(token).dataset_info(repo, revision=revision, timeout=TIMEOUT_S)
        if info.sha is None:
            raise HubError("The Hub names no commit.", where=repo, found=revision)
        names = [sibling.rfilename for sibling in info.siblings or ()]
        chosen = choose_file(names, name, where=f"{endpoint()}/datasets/{repo}")
        path = hf_hub_download(
            repo,
            chosen,
            repo_type="dataset",
            revision=info.sha,
            local_dir=into / repo.replace("/", "--") / info.sha,
            endpoint=endpoint(),
            token=usable_token(token) or False,
        )
    return Path(path)


def choose_file(names: list[str], wanted: str | None, where: str) -> str:
    """Return which of the files to take. Raises UsageError when that is not clear."""
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
        next_step="Name it with --file.",
    )
