"""Start the page: `python -P -m tasks.core.serving.page SETTINGS.json`.

gradio reads the first of these variables when it is imported. Without it, it reports every start
to its makers, and asks them for the newest version.
"""

import logging
import os
import sys

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
os.environ["GRADIO_SSR_MODE"] = "False"
os.environ["HF_HUB_OFFLINE"] = "1"

from pathlib import Path

from pydantic import ValidationError

from tasks.core.errors import KawanUsahaError, UsageError
from tasks.core.serving.page.settings import PageSettings


def main() -> int:
    """Serve, and return the exit code."""
    logging.basicConfig(
        stream=sys.stdout,
        level=logging.WARNING,
        format="%(asctime)s %(levelname)s %(message)s",
    )
    try:
        settings = _settings(sys.argv[1:])
        from tasks.core.serving.page.server import serve  # uvicorn takes half a second

        serve(settings)
    except KawanUsahaError as error:
        logging.getLogger(__name__).error("%s", error)
        return error.exit_code
    return 0


def _settings(arguments: list[str]) -> PageSettings:
    if len(arguments) != 1:
        raise UsageError("The page takes one argument: its settings, a JSON file.")
    try:
        return PageSettings.model_validate_json(Path(arguments[0]).read_bytes())
    except (OSError, ValidationError) as error:
        raise UsageError(
            "The page's settings cannot be read.", where=arguments[0], found=error
        ) from error


sys.exit(main())
