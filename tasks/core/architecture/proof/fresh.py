"""A question to a fresh process that loads models: asked and answered in files.

A process of its own, because in this one the classes of an edited model may be loaded already: only
a process that knows nothing shows what a user's process will see. It runs the code inside the model
directory, so it gets an environment without a secret.
"""

import importlib.metadata
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel

from tasks.core.errors import EditLost, KawanUsahaError
from tasks.core.files.durable import write_atomically
from tasks.core.files.temporary import scratch_directory
from tasks.core.home import PROJECT
from tasks.core.process import Cause, child_environment, run_child
from tasks.core.process.answer_file import error_left_in
from tasks.core.process.quick_start import quick_start
from tasks.core.system.errors import system_error
from tasks.core.system.exhaustion import exhausted_memory

_NO_MEMORY = json.dumps({"out_of_memory": True})
_Request = TypeVar("_Request", bound=BaseModel)

NEXT = "Nothing was published or served. Run the edit again; report this if it stays."


def ask_fresh_process(
    module: str, request: BaseModel, *, model: Path, timeout_s: float, log: Path | None
) -> bytes | None:
    """Return the answer of MODULE's main to a request; None where it had too little memory.

    The file `log` gets what the process prints. Raises what the process raised, and EditLost, with
    the end of its output, when it ended otherwise or did not end within timeout_s.
    """
    with scratch_directory("proof") as directory:
        asked, answered = directory / "request.json", directory / "answer.json"
        asked.write_text(request.model_dump_json())
        child = run_child(
            quick_start(module, str(asked), str(answered)),
            env=_environment(directory),
            log=log,
            timeout_s=timeout_s,
        )
        if child.succeeded and answered.exists():
            return answered.read_bytes()
        if child.cause is Cause.OUT_OF_MEMORY or _says_no_memory(answered):
            return None
        if (told := error_left_in(answered)) is not None:
            raise told
    raise EditLost(
        "The edited model could not be loaded again for the proof.",
        where=model,
        found="\n".join([child.cause.value, *child.tail[-20:], *_whole_output(child.log)]),
        next_step=NEXT,
    )


def answer(
    kind: type[_Request], reply: Callable[[_Request], BaseModel], asked: Path, answered: Path
) -> int:
    """Answer the request in the first file, in the second: with a value, or with the error.

    Want of memory is an answer of its own, and what else the system refuses an error in words.

    The other side of `ask_fresh_process`, for the module that runs there. Returns the exit code.
    """
    try:
        request = kind.model_validate_json(asked.read_bytes())
        write_atomically(answered, reply(request).model_dump_json())
    except Exception as error:
        if exhausted_memory(error) is not None:
            write_atomically(answered, _NO_MEMORY)
            return 1
        known = error if isinstance(error, KawanUsahaError) else system_error(error)
        if known is None:
            raise
        write_atomically(answered, json.dumps({"error": known.as_dict()}))
        return known.exit_code
    return 0


def versions() -> dict[str, str]:
    """Return the versions of the libraries that compute."""
    return {name: importlib.metadata.version(name) for name in ("torch", "transformers")}


def _says_no_memory(answered: Path) -> bool:
    return answered.exists() and answered.read_bytes() == _NO_MEMORY.encode()


def _whole_output(log: Path | None) -> list[str]:
    return [f"The whole output: {log}"] if log else []


def _environment(scratch: Path) -> dict[str, str]:
    """Return an environment without a secret, in which only the directory's own code is found."""
    paths = [str(PROJECT), os.environ.get("PYTHONPATH", "")]
    return {
        **child_environment(os.environ),
        "PYTHONPATH": os.pathsep.join(path for path in paths if path),
        "HF_MODULES_CACHE": str(scratch / "modules"),
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_VERBOSITY": "error",
    }
