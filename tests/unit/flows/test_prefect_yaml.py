"""prefect.yaml names what exists: flows, recipes, pools, and parameters that the flows take."""

import json
from pathlib import Path

import pytest
import yaml
from prefect import Flow
from prefect.flows import load_flow_from_entrypoint
from prefect.utilities.importtools import from_qualified_name

from flows.prefect_server.pools import HEARTBEAT_S, POOLS
from flows.stage_names import STAGES
from tasks.core.home import PROJECT
from tasks.core.recipe.file import find_recipe, load_recipe, recipe_names

CONTENT = yaml.safe_load((PROJECT / "prefect.yaml").read_text())
DEPLOYMENTS = {each["name"]: each for each in CONTENT["deployments"]}
NAMES = sorted(DEPLOYMENTS)


def flow_of(name: str) -> Flow:
    entrypoint = DEPLOYMENTS[name]["entrypoint"]
    return load_flow_from_entrypoint(str(PROJECT / entrypoint))


@pytest.mark.parametrize("name", NAMES)
def test_flow_takes_the_parameters_of_its_deployment(name: str) -> None:
    flow, deployment = flow_of(name), DEPLOYMENTS[name]
    given = deployment.get("parameters", {})
    flow.validate_parameters(given)
    for schedule in deployment.get("schedules", []):
        flow.validate_parameters({**given, **schedule.get("parameters", {})})


def test_parameter_that_a_flow_does_not_take_is_noticed() -> None:
    with pytest.raises(Exception, match="until"):
        flow_of("stage-merge").validate_parameters({"recipe": "demo", "until": "marge"})


def test_every_recipe_has_a_deployment_of_its_name() -> None:
    for name in recipe_names():
        assert DEPLOYMENTS[name]["parameters"] == {"recipe": name}


def test_every_stage_has_a_deployment_that_ends_after_it() -> None:
    for stage in STAGES:
        assert DEPLOYMENTS[f"stage-{stage}"]["parameters"]["until"] == stage


def test_every_recipe_that_a_deployment_names_is_there() -> None:
    named = {
        d["parameters"]["recipe"]
        for d in DEPLOYMENTS.values()
        if "recipe" in d.get("parameters", {})
    }
    for name in named:
        load_recipe(find_recipe(name))


@pytest.mark.parametrize("name", NAMES)
def test_nothing_runs_by_itself_until_somebody_switches_it_on(name: str) -> None:
    for schedule in DEPLOYMENTS[name].get("schedules", []):
        assert schedule["active"] is False
        assert schedule["slug"]


@pytest.mark.parametrize("name", NAMES)
def test_deployment_is_described_and_has_a_pool_that_is_made(name: str) -> None:
    deployment = DEPLOYMENTS[name]
    assert deployment["work_pool"]["name"] in POOLS
    assert deployment["description"]
    assert "kawan-usaha" in deployment["tags"]


def test_version_is_that_of_the_project() -> None:
    project = (PROJECT / "pyproject.toml").read_text()
    assert {each["version"] for each in DEPLOYMENTS.values()} == {
        line.split('"')[1] for line in project.splitlines() if line.startswith("version = ")
    }


@pytest.mark.parametrize("name", NAMES)
def test_no_deployment_holds_a_lease_that_a_restart_of_the_server_loses(name: str) -> None:
    assert "concurrency_limit" not in DEPLOYMENTS[name]


def test_gpu_is_for_one_run_at_a_time() -> None:
    assert POOLS["kawan-gpu"].concurrency_limit == 1


@pytest.mark.parametrize("name", NAMES)
def test_run_gives_the_heartbeats_that_the_automation_expects(name: str) -> None:
    env = DEPLOYMENTS[name]["work_pool"]["job_variables"]["env"]
    assert env["PREFECT_FLOWS_HEARTBEAT_FREQUENCY"] == str(HEARTBEAT_S)


def test_no_deployment_names_a_directory_of_the_machine_that_deploys() -> None:
    assert "$PWD" not in json.dumps(CONTENT)
    assert str(PROJECT) not in json.dumps(CONTENT)


def test_run_works_in_the_checkout_of_its_own_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    ((step, inputs),) = CONTENT["pull"][0].items()
    assert from_qualified_name(step)(**inputs) == {"directory": str(PROJECT)}
    assert Path.cwd() == PROJECT


def test_what_serves_is_deployed_and_watched_on_one_machine() -> None:
    pools = {DEPLOYMENTS[name]["work_pool"]["name"] for name in ("stage-deploy", "serving-watch")}
    assert pools == {"kawan-serve"}
