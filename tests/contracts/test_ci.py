"""CI runs `.ci/run`, on the Python that the project asks for, and nothing else."""

import tomllib

import yaml

from tasks.core.home import PROJECT

WORKFLOW = yaml.safe_load((PROJECT / ".github" / "workflows" / "ci.yml").read_text())
PYPROJECT = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]


def steps() -> list[dict[str, object]]:
    return [step for job in WORKFLOW["jobs"].values() for step in job["steps"]]


def test_the_workflow_runs_what_anybody_can_run() -> None:
    assert [step["run"] for step in steps() if "run" in step] == ["./.ci/run"]
    assert (PROJECT / ".ci" / "run").stat().st_mode & 0o111


def test_it_takes_the_projects_python() -> None:
    (version,) = {
        step["with"]["python-version"] for step in steps() if "python-version" in str(step)
    }
    assert PYPROJECT["requires-python"].startswith(f">={version},")


def test_the_citation_is_of_this_version() -> None:
    cited = yaml.safe_load((PROJECT / "CITATION.cff").read_text())
    assert cited["version"] == PYPROJECT["version"]
    assert cited["license"] == PYPROJECT["license"]
