"""The environment of every process of this project: settings of libraries, and the umask.

Importing `flows` applies it, in the command line and in a Prefect worker that loads
flows/lifecycle.py. What the user has set stays. A worker has imported Prefect before, so Prefect's
settings are read again.
"""

import os
import stat
import sys

from flows.prefect_server.pools import HEARTBEAT_S

_ENVIRONMENT = {
    "DS_ACCELERATOR": "cpu",  # this process computes nothing; else DeepSpeed probes, and logs it
    "DO_NOT_TRACK": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_VERBOSITY": "error",  # it warns of each LFS file, which the embedded Hub asks for
    "TQDM_DISABLE": "1",  # progress is shown by this project, once, and not in log files
    "TRANSFORMERS_VERBOSITY": "error",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_LOGGING_LEVEL": "INFO",
    # The server of `prefect up` takes a run that is silent for longer for dead.
    "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(HEARTBEAT_S),
    "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",  # our threads have no run
}


def keep_libraries_quiet() -> None:
    """Keep libraries from drawing bars, from known warnings and from phoning home."""
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    if "prefect" in sys.modules:
        from prefect.context import refresh_global_settings_context

        refresh_global_settings_context()


def keep_others_from_writing() -> None:
    """Deny other users write access to all files of this process and its children.

    Group write access, for people who share a home, is left as the umask has it.
    """
    before = os.umask(0o077)  # the umask can only be read by setting one
    os.umask(before | stat.S_IWOTH)
