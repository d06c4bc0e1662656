"""A wheel holds what the program reads: its code, its own files, the recipes and the data."""

import tomllib
from pathlib import Path
from zipfile import ZipFile

import pytest
from hatchling.builders.wheel import WheelBuilder

from tasks.core.home import PROJECT


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = str(tmp_path_factory.mktemp("wheel"))
    (made,) = WheelBuilder(str(PROJECT)).build(directory=directory, versions=["standard"])
    return Path(made)


@pytest.fixture(scope="module")
def names(wheel: Path) -> set[str]:
    return set(ZipFile(wheel).namelist())


def files_below(*tops: str) -> set[str]:
    paths = (path for top in tops for path in (PROJECT / top).rglob("*"))
    found = (path.relative_to(PROJECT) for path in paths if path.is_file())
    return {str(path) for path in found if "__pycache__" not in path.parts}


def test_it_holds_every_file_of_the_code(names: set[str]) -> None:
    assert files_below("flows", "tasks") - names == set()


def test_it_holds_recipes_data_and_deployments_where_the_program_looks(names: set[str]) -> None:
    needed = files_below("data/evaluation", "data/pools", "data/recipes")
    needed |= {"data/conversation.json", "data/topics.yaml", "data/README.md", "prefect.yaml"}
    assert {f"tasks/bundled/{name}" for name in needed} - names == set()


def test_it_takes_no_other_file_and_no_other_top_level_name(names: set[str]) -> None:
    assert {name.split("/")[0].partition("-")[0] for name in names} == {
        "flows",
        "tasks",
        "kawan_usaha_llm",
    }
    bundled = {name for name in names if name.startswith("tasks/bundled/data/")}
    assert not [name for name in bundled if name.endswith((".pyc", ".safetensors", ".bin"))]


def test_an_editable_installation_copies_none_of_it(tmp_path: Path) -> None:
    (made,) = WheelBuilder(str(PROJECT)).build(directory=str(tmp_path), versions=["editable"])
    assert not [name for name in ZipFile(made).namelist() if name.startswith("tasks/")]


def test_its_version_is_the_latest_of_the_changelog(wheel: Path) -> None:
    version = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["version"]
    headings = (PROJECT / "CHANGELOG.md").read_text().split("\n## ")[1:]
    released = [heading.split()[0] for heading in headings if not heading.startswith("Unreleased")]
    assert released[0] == version
    assert f"-{version}-" in wheel.name
