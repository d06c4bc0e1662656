"""`equivalent.yaml`: the mutants that no test can tell from the original, and why not."""

from pathlib import Path

import yaml

from tests.mutants.mutation import mutants
from tests.mutants.targets import TARGETS

FILE = Path(__file__).with_name("equivalent.yaml")


def answered() -> dict[str, dict[str, str]]:
    """Return the reasons by module and name of the mutant."""
    return yaml.safe_load(FILE.read_text()) or {}


def stale() -> list[str]:
    """Return the entries whose mutant is no longer one of its module."""
    files = {module: file for target in TARGETS for module, file in target.modules().items()}
    found = []
    for module, reasons in answered().items():
        there = (
            {each.name for each in mutants(files[module].read_text())} if module in files else ()
        )
        found += [f"{module}: {name}" for name in reasons if name not in there]
    return found
