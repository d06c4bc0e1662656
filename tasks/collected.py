"""Collected: the reviewed answers of a deployment become an artifact to train on."""

import hashlib

from tasks.core.collected.review.reviewed_set import HELD_OUT_SHARE, reviewed_set
from tasks.core.collected.storage.directory import directory_lock
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
    """Take everything reviewed so far: training and held-out conversations, pairs, decisions.

    The key depends on the content: without a new decision it is the artifact that exists already.
    """
    directory = collected_answers(home(), deployment)
    with directory_lock(directory, "reviewed set", shared=True):
        reviewed = reviewed_set(directory)
    files = reviewed.files()
    for each in reviewed.left_out:
        log_line(f"{each.id} is accepted but left out: {each.reason}")
    params = {"deployment": deployment, "held_out_share": HELD_OUT_SHARE}
    inputs = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}

    def write(staging: Staging) -> None:
        staging.keep_private()  # texts of people, although without their names
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
