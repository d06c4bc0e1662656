"""What is used of huggingface_hub beyond its documented interface.

Everything of that kind comes through here, and pyproject.toml pins the minor version for it. Beside
the names two habits are relied on: a file that is open is sent by LFS, never by Xet, and a SHA-256
that `upload_info` holds is not computed again.
"""

from huggingface_hub.lfs import UploadInfo, post_lfs_batch_info
from huggingface_hub.repocard import REGEX_YAML_BLOCK
from huggingface_hub.utils import parse_ratelimit_headers  # type: ignore[attr-defined]
from huggingface_hub.utils._validators import validate_repo_id

__all__ = [
    "REGEX_YAML_BLOCK",
    "UploadInfo",
    "parse_ratelimit_headers",
    "post_lfs_batch_info",
    "validate_repo_id",
]
