"""The stages that a rebuild can end after; apart, so that the command line loads no Prefect."""

from typing import Literal

Until = Literal["plan", "download", "merge", "edit", "fuse", "evaluate", "publish", "deploy"]
