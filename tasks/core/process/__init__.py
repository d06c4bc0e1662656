"""Child processes whose output is seen, whose end is understood and whose descendants end too."""

from tasks.core.process.child import Cause, ChildResult, run_child
from tasks.core.process.environment import NETWORK, child_environment
from tasks.core.process.tree import is_running

__all__ = ["NETWORK", "Cause", "ChildResult", "child_environment", "is_running", "run_child"]
