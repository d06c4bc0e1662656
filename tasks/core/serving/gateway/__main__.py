"""Start the gateway: `python -P -m tasks.core.serving.gateway SETTINGS.json`.

The lines before the imports keep torch out. transformers imports it, if it is installed, as soon as
a tokenizer is loaded (5 s and 346 MB instead of 3 s and 73 MB), and no longer has a setting for
that. None in sys.modules is Python's own way to prevent an import.
"""

import os
import sys

sys.modules["torch"] = None  # type: ignore[assignment]
os.environ["TRANSFORMERS_VERBOSITY"] = "error"  # otherwise it advises to install torch
# Nothing is fetched while serving, whatever a tokenizer's files name.
os.environ["HF_HUB_OFFLINE"] = "1"

from pathlib import Path  # noqa: E402

from pydantic import ValidationError  # noqa: E402

from tasks.core.errors import KawanUsahaError, UsageError  # noqa: E402
from tasks.core.serving.gateway.logs import LOG, start_log  # noqa: E402
from tasks.core.serving.gateway.server import serve  # noqa: E402
from tasks.core.serving.gateway.settings import GatewaySettings  # noqa: E402


def main() -> int:
    """Serve, and return the exit code."""
    start_log()
    try:
        serve(_settings(sys.argv[1:]))
    except KawanUsahaError as error:
        LOG.error("%s", error)
        return error.exit_code
    return 0


def _settings(arguments: list[str]) -> GatewaySettings:
    if len(arguments) != 1:
        raise UsageError("The gateway takes one argument: its settings, a JSON file.")
    try:
        return GatewaySettings.model_validate_json(Path(arguments[0]).read_bytes())
    except (OSError, ValidationError) as error:
        raise UsageError(
            "The gateway's settings cannot be read.", where=arguments[0], found=error
        ) from error


sys.exit(main())
