"""The life of an engine's process: load, prove, listen, end. Runs in the child only.

The invariant: the port is opened after the proof, so no traffic can reach a model that has lost its
edit. A refusal is written to a file beside the expectation, with exit code REFUSED.
"""

import argparse
import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType

import uvicorn

from tasks.core.errors import KawanUsahaError
from tasks.core.files.durable import write_atomically
from tasks.core.machine.devices import serving
from tasks.core.process.descriptors import allow_many_descriptors
from tasks.core.serving.engines.loaded import LoadedModel
from tasks.core.serving.engines.places import EnginePlaces
from tasks.core.serving.engines.process_arguments import EngineArguments
from tasks.core.serving.engines.request import ModelLimits
from tasks.core.serving.engines.server import EngineService, engine_app
from tasks.core.serving.proof.readiness import (
    EXPECTATION_VARIABLE,
    REFUSAL_FILE,
    REFUSED,
    read_expectation,
    refusal_json,
)

_log = logging.getLogger(__name__)

_GRACE_S = 3
"""Streams learn at their next token that the process is ending; a long prompt may take longer."""


def run_engine(words: Sequence[str], load: Callable[[EngineArguments], LoadedModel]) -> int:
    """Serve what `load` returns for the arguments in the words; return the exit code."""
    # A log line that cannot be written is dropped. Otherwise logging reports it on stderr, which
    # FastChat has turned into a logger: without supervisord at the other end of the pipe that
    # recurses for ever, and every request fails.
    logging.raiseExceptions = False
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    parser = argparse.ArgumentParser()
    parser.add_argument("--settings", type=EngineArguments.model_validate_json, required=True)
    arguments: EngineArguments = parser.parse_args(words).settings
    # This process holds the device locks itself, so that they are freed however it ends.
    with serving(f"deployment {Path.cwd().parent.name}"):
        return _serve(arguments, load)


def _serve(arguments: EngineArguments, load: Callable[[EngineArguments], LoadedModel]) -> int:
    """Return the exit code."""
    expectation_file = Path(os.environ[EXPECTATION_VARIABLE])
    try:
        expectation = read_expectation(expectation_file)
        loaded = load(arguments)
        loaded.prove(expectation)
    except KawanUsahaError as error:
        _log.error("refusing to serve: %s", error)
        write_atomically(expectation_file.with_name(REFUSAL_FILE), refusal_json(error))
        return REFUSED
    served = _served(loaded, arguments, expectation.build)
    allow_many_descriptors()
    server = _Server(served, arguments.port)
    try:
        server.run()
    finally:
        served.generator.close()
    return 1 if served.generator.failure() else 0


def _served(loaded: LoadedModel, arguments: EngineArguments, build: str) -> EngineService:
    generator = loaded.generator()
    return EngineService(
        generator=generator,
        tokenizer=loaded.tokenizer,
        limits=ModelLimits(
            model_name=arguments.model_name,
            context_tokens=generator.context_tokens,
            vocabulary=generator.vocabulary,
            takes=frozenset(arguments.takes),
        ),
        places=EnginePlaces(
            generator.room,
            waiting=arguments.running + arguments.waiting - generator.room.requests,
        ),
        report=lambda: loaded.report(build),
    )


class _Server(uvicorn.Server):
    """Ends streams with an error instead of silence, and exits when the generator fails."""

    def __init__(self, served: EngineService, port: int) -> None:
        super().__init__(
            uvicorn.Config(
                engine_app(served),
                host="127.0.0.1",
                port=port,
                log_config=None,
                access_log=False,
                timeout_graceful_shutdown=_GRACE_S,
            )
        )
        self._served = served

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Handle a signal, between two steps of the event loop."""
        self._served.places.close()
        super().handle_exit(sig, frame)

    async def on_tick(self, counter: int) -> bool:
        """Return whether to end; called ten times a second."""
        failure = self._served.generator.failure()
        if failure is not None:
            _log.error("the model answers no more: %s", failure)
            self._served.places.close()
            return True
        return await super().on_tick(counter)
