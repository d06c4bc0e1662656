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

    def modules(self) -> dict[str, Path]:
        """Return the modules with their files."""
        return {each: PROJECT.joinpath(*each.split(".")).with_suffix(".py") for each in self.code}


def _in(package: str, *modules: str) -> tuple[str, ...]:
    return tuple(f"{package}.{module}" for module in modules)


_STORE = "tasks.core.store"
_STORE_TESTS = (
    *(
        f"store/test_{name}.py"
        for name in (
            "store",
            "damaged",
            "sealing",
            "freed",
            "waiting",
            "privacy",
            "unsafe_names",
            "run",
            "runs",
            "repetitions",
            "seals",
            "signed",
            "releases",
            "remote",
            "remote_cut_off",
            "remote_large",
            "pull",
            "sharing",
            "transfers",
            "handover",
            "handover_states",
        )
    ),
    "test_pruning.py",
)


def _of_store(name: str, *modules: str) -> Target:
    """Return a part of the store. Its parts use each other, so each has the tests of all."""
    return Target(name, _in(_STORE, *modules), _STORE_TESTS, without="s3")


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
    _of_store("artifacts", "store", "commit", "manifest", "staging", "shelf", "links", "privacy"),
    _of_store("upkeep", "upkeep", "checks", "restoring"),
    _of_store("runs", "run", "runs", "run_record", "repetitions"),
    _of_store("seals", "seals", "signed", "kept_signatures", "releases"),
    _of_store("remote", "remote", "sharing", "pushed", "transfers", "handover"),
)
