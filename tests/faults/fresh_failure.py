"""A fresh process, as that of a proof, in which something goes wrong."""

import errno
import os
from pathlib import Path

from pydantic import BaseModel

from tasks.core.architecture.proof.fresh_process import answer


class Question(BaseModel):
    """What is to go wrong."""

    wrong: str


class Reply(BaseModel):
    """That nothing did."""


def _reply(question: Question) -> Reply:
    if question.wrong == "memory":
        raise MemoryError
    if question.wrong == "torch's memory":
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: 9")
    if question.wrong == "a bug":
        raise ZeroDivisionError
    number = getattr(errno, question.wrong)
    raise OSError(number, os.strerror(number), "/models/one")


def main(asked: str, answered: str) -> int:
    """Answer."""
    return answer(Question, _reply, Path(asked), Path(answered))
