"""The stages of a rebuild in their order; apart, so that the command line loads no Prefect."""

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
    """Return the stages that a run from the first to the last does; `plan` alone plans all."""
    if last == "plan":
        return STAGES
    return STAGES[STAGES.index(first) : STAGES.index(last) + 1]
