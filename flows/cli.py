"""`kawan-usaha …`: words become a recipe, a flow or a call into core. Never logic.

Exit codes: 0 done, 1 failed, 2 wrong usage or a wrong recipe, 130 stopped by Ctrl-C, 143 by
SIGTERM. An error that a user can act on is printed as advice, never as a traceback.
"""

import json
import os
import sys

import typer

from flows.commands import (
    data,
    demo,
    evaluate,
    finetune,
    lifecycle,
    models,
    publish,
    serving,
    store,
)
from tasks.core.errors import DiskFull, KawanUsahaError
from tasks.core.process.stopping import Watch, raised_when_stopped, stop_behind, stop_in_time

app = typer.Typer(
    name="kawan-usaha",
    help="The lifecycle of a language model for small businesses: download, merge a delta, edit "
    "the architecture, fine-tune, evaluate, publish and serve.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)
for module in (demo, lifecycle, models, data, finetune, evaluate, publish, serving, store):
    module.register(app)


_ENVIRONMENT = {
    "DS_ACCELERATOR": "cpu",  # this process computes nothing; else DeepSpeed looks, and says so
    "DO_NOT_TRACK": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TQDM_DISABLE": "1",  # progress is shown by us, once, and not in log files
    "TRANSFORMERS_VERBOSITY": "error",
}
"""What libraries read when they are imported; what the user has set stays."""
_RESUMES = "What is finished is kept; the same command resumes from there."


def main() -> None:
    """Run the command line and exit with its code."""
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    with stop_in_time() as watch, raised_when_stopped():
        _run(watch)


def _run(watch: Watch) -> None:
    try:
        app(standalone_mode=True)
    except KawanUsahaError as raised:
        error = _advised(raised)
        if "--json" in sys.argv:
            print(json.dumps(error.as_dict(), ensure_ascii=False, indent=1))  # noqa: T201
        else:
            typer.secho(
                f"kawan-usaha: {error}", err=True, fg="red" if sys.stderr.isatty() else None
            )
        sys.exit(error.exit_code)
    except SystemExit as end:  # Typer makes one of a KeyboardInterrupt, too
        stop, notes = stop_behind(end)
        if stop is None:
            raise
        watch.for_good = True  # what Python and Prefect do at the end may hang as well
        typer.echo(f"\nkawan-usaha: {' '.join([f'{stop}.', *notes, _RESUMES])}", err=True)
        sys.exit(stop.exit_code)


def _advised(error: KawanUsahaError) -> KawanUsahaError:
    """Return the error; on a full disk with what can go from the store."""
    from tasks.core.home import home

    if not isinstance(error, DiskFull):
        return error
    from tasks.core.room import with_advice

    return with_advice(error, home())
