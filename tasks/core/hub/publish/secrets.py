"""Secrets in what would be published: file names and contents that look like tokens or keys.

Known kinds only, by their patterns. An error names the kind and the line, never the secret.
"""

import re
from pathlib import Path

from tasks.core.errors import SecretFound
from tasks.core.files.foreign import read_whole

_SECRET_NAME = re.compile(
    r"(?:^|[^a-z])(?:tokens?|secrets?|passwords?|passwd|credentials?|api[-_.]?keys?|private[-_.]?keys?)"
    r"(?:[^a-z]|$)|(?:^|/)(?:\.env|\.netrc|id_(?:rsa|dsa|ecdsa|ed25519))|\.(?:pem|key|p12|pfx)$",
    re.IGNORECASE,
)
_SECRETS = {
    "a token of Hugging Face": rb"hf_[A-Za-z0-9]{30,}",
    "an access key of AWS": rb"(?:AKIA|ASIA)[0-9A-Z]{16}",
    "an API key that begins with sk-": rb"sk-(?:[a-z]+-)*[A-Za-z0-9_]{20,}",
    "a token of GitHub": rb"(?:gh[opsu]_[A-Za-z0-9]{36}|github_pat_[A-Za-z0-9_]{40,})",
    "a token of GitLab": rb"glpat-[A-Za-z0-9_-]{20}",
    "a token of Slack": rb"xox[abprs]-[A-Za-z0-9-]{10,}",
    "a key of Google": rb"AIza[A-Za-z0-9_-]{35}",
    "a private key": rb"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY-----",
}
_SECRET = re.compile(b"|".join(b"(?<![A-Za-z0-9])(%s)" % pattern for pattern in _SECRETS.values()))
_SMALL_BYTES = 1 << 20
"""Larger files are vocabularies; they are not searched."""


def looks_like_a_secret(name: str) -> bool:
    """Return whether a file has a name that people give to secrets."""
    return bool(_SECRET_NAME.search(name))


def require_no_secret_in(path: Path) -> None:
    """Raise SecretFound for a small file with a known kind of token or key in it."""
    if path.is_file() and path.stat().st_size <= _SMALL_BYTES:
        require_no_secret(read_whole(path), where=path)


def require_no_secret(content: bytes, *, where: object) -> None:
    """Raise SecretFound when there is a known kind of token or key in content."""
    match = _SECRET.search(content)
    if match is None:
        return
    kind = list(_SECRETS)[(match.lastindex or 1) - 1]
    line = content.count(b"\n", 0, match.start()) + 1
    raise SecretFound(
        "A file that would be published holds a secret.",
        where=f"{where}, line {line}",
        found=f"what looks like {kind}",
        next_step="Remove it from the file, and revoke it if anybody else has had the file. Then "
        "publish again; nothing was sent.",
    )


def require_no_secret_name(model: Path, name: str) -> None:
    """Raise SecretFound for a file that has the name of a secret."""
    if looks_like_a_secret(name):
        raise SecretFound(
            "A file that would be published has the name of a secret.",
            where=model / name,
            next_step="Move it out of the model's directory, or rename it if it holds no secret.",
        )
