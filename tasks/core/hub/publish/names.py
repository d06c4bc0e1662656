"""The names of a build where it is published: its branch while it arrives, then its tag.

The titles of its commits carry the name, too: a later publish recognizes its own commits by them.
"""

import re

from tasks.core.errors import UsageError

_BUILD = re.compile(r"^[A-Za-z0-9](?:[A-Za-z0-9._-]{0,78}[A-Za-z0-9])?$")
TAG = "release-"
BRANCH = "build-"


def require_build_name(build: str) -> str:
    """Return build if it can name a branch, a tag and a folder; else raise UsageError."""
    if not _BUILD.match(build) or ".." in build or build.endswith(".lock"):
        raise UsageError(
            "This is not a valid name for a build.",
            where="build",
            expected="up to 80 letters, digits, - _ or . between two letters or digits",
            found=repr(build),
            next_step="Use the first digits of the artifact's digest.",
        )
    return build


def branch_of(build: str) -> str:
    """Return the branch that receives the build."""
    return f"{BRANCH}{require_build_name(build)}"


def tag_of(build: str) -> str:
    """Return the tag of the build. Its prefix keeps a digest from being read as a commit."""
    return f"{TAG}{require_build_name(build)}"


def build_of(tag: str) -> str:
    """Return the build that a tag, or its bare name, stands for."""
    return require_build_name(tag.removeprefix(TAG))


def upload_title(branch: str) -> str:
    """Return the title of the commit that brings a build to its branch."""
    return f"Upload {branch}"


def publish_title(build: str) -> str:
    """Return the title of the commit that makes main show the build."""
    return f"Publish {build}"


def rollback_title(build: str) -> str:
    """Return the title of the commit that makes main show the build again."""
    return f"Roll back to {TAG}{build}"


def titles_of_tag(tag: str) -> tuple[str, ...]:
    """Return the titles that the commit of a build's tag may have; none for any other tag.

    Earlier versions set the tag on the commit of main, which held the build alone.
    """
    if not tag.startswith(TAG):
        return ()
    build = tag.removeprefix(TAG)
    return upload_title(f"{BRANCH}{build}"), publish_title(build), rollback_title(build)


def titles_of_branch(branch: str) -> tuple[str, ...]:
    """Return the title of the last commit of a build's branch; none for any other branch."""
    return (upload_title(branch),) if branch.startswith(BRANCH) else ()
