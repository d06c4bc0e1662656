"""The stages of a rebuild in their order. Imports no Prefect: the command line needs them."""

from typing import Literal, get_args

StageName = Literal[
    "plan",
    "download",
    "merge",
    "edit",
    "prepare",
    "finetune",
    "fuse",
    "evaluate",
    "gate",
    "publish",
    "deploy",
]
STAGES: tuple[StageName, ...] = get_args(StageName)


def stages_before(stage: StageName) -> tuple[StageName, ...]:
    """Return the stages that come before this one."""
    return STAGES[: STAGES.index(stage)]


def stages_between(first: StageName, last: StageName) -> tuple[StageName, ...]:
    """Return the stages from the first to the last; until `plan`, all of them are planned."""
    if last == "plan":
        return STAGES
    return STAGES[STAGES.index(first) : STAGES.index(last) + 1]
