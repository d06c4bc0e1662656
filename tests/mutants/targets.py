"""Which modules are mutated, and which tests must notice."""

from dataclasses import dataclass
from pathlib import Path

from tasks.core.home import PROJECT


@dataclass(frozen=True)
class Target:
    """Modules, and the tests of them: files below `tests/unit`."""

    name: str
    code: tuple[str, ...]
    tests: tuple[str, ...]
    without: str = ""
    """Tests with this in their names are left out: they start a server in each fork."""
    by_default: bool = True
    """Whether it is run unasked: not before its survivors are answered."""

    def modules(self) -> dict[str, Path]:
        """Return the modules with their files."""
        return {each: PROJECT.joinpath(*each.split(".")).with_suffix(".py") for each in self.code}


def _in(package: str, *modules: str) -> tuple[str, ...]:
    return tuple(f"{package}.{module}" for module in modules)


_STORE = "tasks.core.store"
TARGETS = (
    Target("keys", ("tasks.core.keys",), ("test_keys.py",)),
    Target("gate", ("tasks.core.evaluation.gate",), ("evaluation/test_gate.py",)),
    Target(
        "labels",
        ("tasks.core.conversation.examples.labels",),
        ("conversation/examples/test_labels.py", "conversation/test_preferences.py"),
    ),
    Target(
        "checkpoints",
        ("tasks.core.training.checkpoints.directory",),
        ("training/test_checkpoints_directory.py",),
    ),
    Target(
        "ladder",
        _in("tasks.core.training", "ladder", "rung_choice"),
        ("training/test_ladder.py",),
    ),
    Target(
        "artifacts",
        _in(_STORE, "store", "commit", "manifest", "staging", "shelf", "links", "privacy"),
        ("store/test_store.py", "store/test_privacy.py", "store/test_unsafe_names.py"),
        by_default=False,
    ),
    Target(
        "upkeep",
        _in(_STORE, "upkeep", "checks", "restoring"),
        ("store/test_store.py", "store/test_run.py"),
        by_default=False,
    ),
    Target(
        "runs",
        _in(_STORE, "run", "runs", "run_record", "repetitions"),
        ("store/test_run.py", "store/test_runs.py", "store/test_repetitions.py"),
        by_default=False,
    ),
    Target(
        "seals",
        _in(_STORE, "seals", "signed", "kept_signatures", "releases"),
        ("store/test_seals.py", "store/test_signed.py", "store/test_releases.py"),
        without="s3",
        by_default=False,
    ),
    Target(
        "remote",
        _in(_STORE, "remote", "sharing", "pushed", "transfers"),
        ("store/test_remote.py", "store/test_remote_large.py", "store/test_transfers.py"),
        without="s3",
        by_default=False,
    ),
    Target(
        "handover",
        _in(_STORE, "handover"),
        ("store/test_handover.py",),
        without="s3",
        by_default=False,
    ),
)
