"""What a process of this project begins with: what libraries read when imported, and its umask.

Importing `flows` sets it: the command line passes there, and so does a Prefect worker, which loads
flows/lifecycle.py itself. What the user has set stays. Prefect is there already in a worker, so its
settings are read once more.
"""

import os
import stat
import sys

from flows.pools import HEARTBEAT_S

_ENVIRONMENT = {
    "DS_ACCELERATOR": "cpu",  # this process computes nothing; else DeepSpeed looks, and says so
    "DO_NOT_TRACK": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_VERBOSITY": "error",  # it warns of each file that goes by LFS, as a Hub here wants it
    "TQDM_DISABLE": "1",  # progress is shown by us, once, and not in log files
    "TRANSFORMERS_VERBOSITY": "error",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_LOGGING_LEVEL": "INFO",
    # A server of `prefect up` takes a run that is silent for longer to be dead.
    "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(HEARTBEAT_S),
    "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",  # a thread of ours has no run
}


def keep_libraries_quiet() -> None:
    """Set what keeps libraries from drawing bars, warning of what we know, and phoning home."""
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    if "prefect" in sys.modules:
        from prefect.context import refresh_global_settings_context

        refresh_global_settings_context()


def keep_others_from_writing() -> None:
    """Let no other user change what this process or a child of it writes, whatever its umask was.

    A group that may write, as where people share a home, still may.
    """
    before = os.umask(0o077)  # the umask can only be read by setting one
    os.umask(before | stat.S_IWOTH)
