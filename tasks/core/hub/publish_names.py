"""How a build is called where it is published: its branch while it arrives, its tag afterwards."""

import re

from tasks.core.errors import UsageError

_BUILD = re.compile(r"^[A-Za-z0-9](?:[A-Za-z0-9._-]{0,78}[A-Za-z0-9])?$")
_TAG = "release-"


def require_build_name(build: str) -> str:
    """Return build when it can name a branch, a tag and a folder; else raise UsageError."""
    if not _BUILD.match(build) or ".." in build or build.endswith(".lock"):
        raise UsageError(
            "This cannot name a build.",
            where="build",
            expected="up to 80 letters, digits, - _ or . between two letters or digits",
            found=repr(build),
            next_step="Use the first digits of the artifact's digest.",
        )
    return build


def branch_of(build: str) -> str:
    """Return the branch that receives the build."""
    return f"build-{require_build_name(build)}"


def tag_of(build: str) -> str:
    """Return the tag that stays. Its prefix keeps a digest from being read as a commit."""
    return f"{_TAG}{require_build_name(build)}"


def build_of(tag: str) -> str:
    """Return the build that a tag, or its bare name, stands for."""
    return require_build_name(tag.removeprefix(_TAG))
