"""A request to a fresh process that loads models, and its answer: both are files.

A process of its own, because in this one the classes of an edited model may be loaded already: only
a process that knows nothing shows what a user's process will see. It runs the code inside the model
directory, so its environment holds no secrets.
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

NEXT_STEP = "Nothing was published or served. Run the edit again; report this if it happens again."


def ask_fresh_process(
    module: str, request: BaseModel, *, model: Path, timeout_s: float, log: Path | None
) -> bytes | None:
    """Return the answer of a module's `main` to a request; None where it ran out of memory.

    The process's output goes to the file `log`. Raises what the process raised, and EditLost, with
    the end of its output, when it failed otherwise or exceeded timeout_s.
    """
    with scratch_directory("proof") as directory:
        request_file, answer_file = directory / "request.json", directory / "answer.json"
        request_file.write_text(request.model_dump_json())
        child = run_child(
            quick_start(module, str(request_file), str(answer_file)),
            env=_environment(directory),
            log=log,
            timeout_s=timeout_s,
        )
        if child.succeeded and answer_file.exists():
            return answer_file.read_bytes()
        if child.cause is Cause.OUT_OF_MEMORY or _reports_no_memory(answer_file):
            return None
        if (error := error_left_in(answer_file)) is not None:
            raise error
    raise EditLost(
        "The edited model could not be loaded again for the proof.",
        where=model,
        found="\n".join([child.cause.value, *child.tail[-20:], *_full_output(child.log)]),
        next_step=NEXT_STEP,
    )


def answer(
    kind: type[_Request],
    reply: Callable[[_Request], BaseModel],
    request_file: Path,
    answer_file: Path,
) -> int:
    """Answer the request in one file with a value or an error in the other; return the exit code.

    The other end of `ask_fresh_process`, for the module that runs in the process. Running out of
    memory is an answer of its own.
    """
    try:
        request = kind.model_validate_json(request_file.read_bytes())
        write_atomically(answer_file, reply(request).model_dump_json())
    except Exception as error:
        if exhausted_memory(error) is not None:
            write_atomically(answer_file, _NO_MEMORY)
            return 1
        known = error if isinstance(error, KawanUsahaError) else system_error(error)
        if known is None:
            raise
        write_atomically(answer_file, json.dumps({"error": known.as_dict()}))
        return known.exit_code
    return 0


def versions() -> dict[str, str]:
    """Return the versions of the libraries that do the computing."""
    return {name: importlib.metadata.version(name) for name in ("torch", "transformers")}


def _reports_no_memory(answer_file: Path) -> bool:
    return answer_file.exists() and answer_file.read_bytes() == _NO_MEMORY.encode()


def _full_output(log: Path | None) -> list[str]:
    return [f"Full output: {log}"] if log else []


def _environment(scratch: Path) -> dict[str, str]:
    """Return an environment without secrets, in which only the directory's own code is found."""
    paths = [str(PROJECT), os.environ.get("PYTHONPATH", "")]
    return {
        **child_environment(os.environ),
        "PYTHONPATH": os.pathsep.join(path for path in paths if path),
        "HF_MODULES_CACHE": str(scratch / "modules"),
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_VERBOSITY": "error",
    }
