"""Child processes: their output, why they ended, and the end of all their descendants."""

from tasks.core.process.child import Cause, ChildResult, run_child
from tasks.core.process.environment import NETWORK, child_environment
from tasks.core.process.tree import is_running

__all__ = ["NETWORK", "Cause", "ChildResult", "child_environment", "is_running", "run_child"]
