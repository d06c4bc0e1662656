"""Collected: what the team has accepted of a deployment's answers, as data to learn from."""

import hashlib

from tasks.core.collected.place import held
from tasks.core.collected.reviewed import HELD_OUT_SHARE, reviewed_set
from tasks.core.home import home
from tasks.core.keys import stage_key
from tasks.core.serving.state.directory import collected_answers
from tasks.core.store import Staging
from tasks.progress import log_line
from tasks.runtime import build_stage, stage_task
from tasks.stage_result import StageResult

VERSION = 1


@stage_task("collected", lambda deployment: deployment)
def collected(deployment: str) -> StageResult:
    """Take all that was reviewed until now: conversations, those held out, pairs, who decided.

    The key is of the content: without a new decision it is the artifact that is there already.
    """
    directory = collected_answers(home(), deployment)
    with held(directory, "reviewed set", shared=True):
        reviewed = reviewed_set(directory)
    files = reviewed.files()
    for each in reviewed.left_out:
        log_line(f"{each.id} is accepted, and left out: {each.reason}")
    params = {"deployment": deployment, "held_out_share": HELD_OUT_SHARE}
    inputs = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}

    def write(staging: Staging) -> None:
        staging.keep_private()  # what people wrote, if without their names
        for name, content in files.items():
            (staging.path / name).write_bytes(content)
        staging.note(
            reviewed=len(reviewed.reviews),
            conversations=len(reviewed.conversations),
            held_out=len(reviewed.held_out),
            preferences=len(reviewed.preferences),
            left_out=len(reviewed.left_out),
        )

    return build_stage(stage_key("collected", VERSION, params, inputs), write, params, inputs)
