"""Which modules are mutated, and which tests must notice."""

from dataclasses import dataclass
from pathlib import Path

from tasks.core.home import PROJECT


@dataclass(frozen=True)
class Target:
    """Modules, and the tests of them: files or directories below `tests`."""

    code: str
    """A module, or a package with all of its modules."""
    tests: tuple[str, ...]
    without: str = ""
    """Tests with this in their names are left out: they start a server in each fork."""

    def modules(self) -> dict[str, Path]:
        """Return the modules with their files."""
        path = PROJECT.joinpath(*self.code.split("."))
        files = sorted(path.rglob("*.py")) if path.is_dir() else [path.with_suffix(".py")]
        return {_name_of(file): file for file in files}


def _name_of(file: Path) -> str:
    parts = file.relative_to(PROJECT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


TARGETS = (
    Target("tasks.core.keys", ("unit/test_keys.py",)),
    Target("tasks.core.evaluation.gate", ("unit/evaluation/test_gate.py",)),
    Target(
        "tasks.core.conversation.examples.labels",
        ("unit/conversation/examples/test_labels.py", "unit/conversation/test_preferences.py"),
    ),
    Target(
        "tasks.core.training.checkpoints.directory",
        ("unit/training/test_checkpoints_directory.py",),
    ),
    Target("tasks.core.training.ladder", ("unit/training/test_ladder.py",)),
    Target("tasks.core.training.rung_choice", ("unit/training/test_ladder.py",)),
    Target("tasks.core.store", ("unit/store",), without="s3"),
)
