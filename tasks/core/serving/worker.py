"""FastChat's model worker, with the proof before its first request. Runs in the child only.

The worker loads the model unregistered, so that the controller knows nothing of it; then the model
that is really in memory is compared with what was promised; then the port is opened; and only then
is the controller told. Traffic can therefore not reach a model that has lost its edit.
"""

import asyncio
import logging
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import torch
import uvicorn
from pydantic import JsonValue

from tasks.core.errors import KawanUsahaError
from tasks.core.files import write_atomically
from tasks.core.serving.report import (
    EXPECTATION_VARIABLE,
    REFUSAL_FILE,
    REFUSED,
    REPORT_ROUTE,
    WorkerReport,
    read_expectation,
    refusal_json,
    require_as_expected,
)
from tasks.core.serving.rotary import restore_rotary_precision

logger = logging.getLogger(__name__)


def serve_proven(app: Any, worker: Any, *, host: str, port: int) -> None:
    """Serve a loaded FastChat worker after the proof; end the process with REFUSED without it.

    app is FastChat's application, worker its ModelWorker, not yet registered.
    """
    expectation_file = Path(os.environ[EXPECTATION_VARIABLE])

    def report() -> WorkerReport:
        return report_of(worker, build=expectation.build)

    restore_rotary_precision(worker.model)
    try:
        expectation = read_expectation(expectation_file)
        require_as_expected(expectation, report())
    except KawanUsahaError as error:
        logger.error("refusing to serve: %s", error)
        write_atomically(expectation_file.with_name(REFUSAL_FILE), refusal_json(error))
        sys.exit(REFUSED)
    app.add_api_route(REPORT_ROUTE, report, methods=["GET"])
    server = _AnnouncedServer(uvicorn.Config(app, host=host, port=port), worker.init_heart_beat)
    server.run()


def report_of(worker: Any, *, build: str) -> WorkerReport:
    """Return what a FastChat ModelWorker holds in memory at this moment."""
    model = worker.model
    return WorkerReport(
        build=build,
        template=worker.conv.name,
        model_class=type(model).__name__,
        device=str(model.device),
        dtype=str(model.dtype).removeprefix("torch."),
        context_length_tokens=worker.context_len,
        resident_bytes=psutil.Process().memory_info().rss,
        device_bytes=_allocated_on_devices(),
        edit=_observed_edit(model),
    )


def _observed_edit(model: Any) -> dict[str, JsonValue] | None:
    observe: Callable[[], dict[str, JsonValue]] | None = getattr(model, "kawan_usaha_report", None)
    return None if observe is None else observe()


def _allocated_on_devices() -> int:
    if not torch.cuda.is_available():
        return 0
    return sum(torch.cuda.memory_allocated(i) for i in range(torch.cuda.device_count()))


class _AnnouncedServer(uvicorn.Server):
    """Calls `announce` once its port is open.

    FastChat registers a worker while its port is still closed. A client that asks for /v1/models in
    that moment makes the controller look, find nobody and forget the worker until its next heart
    beat.
    """

    def __init__(self, config: uvicorn.Config, announce: Callable[[], None]) -> None:
        super().__init__(config)
        self._announce = announce

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Open the port, then announce; an announcement that fails ends the process."""
        await super().startup(sockets)
        await asyncio.to_thread(self._announce)
