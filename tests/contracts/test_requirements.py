"""What pyproject.toml asks for, beside the versions that were tested together."""

import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]


def of_project() -> list[Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return [
        Requirement(each)
        for each in (*project["dependencies"], *project["optional-dependencies"]["dev"])
    ]


def locked() -> dict[str, str]:
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    pins = (line.split("==") for line in lines if "==" in line and not line.startswith("#"))
    return {canonicalize_name(name): version for name, version in pins}


def test_no_package_is_named_twice() -> None:
    names = [canonicalize_name(each.name) for each in of_project()]
    assert sorted(names) == sorted(set(names))


def test_each_has_a_version_in_the_lock_that_it_allows() -> None:
    pins = locked()
    wrong = [
        f"{each}: {pins.get(canonicalize_name(each.name))}"
        for each in of_project()
        if not each.specifier.contains(pins.get(canonicalize_name(each.name), ""))
    ]
    assert wrong == []
