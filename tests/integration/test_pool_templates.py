"""The job templates of Docker and Kubernetes pools, as a real server takes and Prefect fills them.

No container is started: there is neither Docker nor a cluster in these tests. With prefect-docker
and prefect-kubernetes installed, their own classes fill the templates as well.
"""

import json
import re
from typing import Any
from uuid import uuid4

import pytest
import yaml
from docker.types import HostConfig
from prefect import flow
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.objects import FlowRun
from prefect.exceptions import PrefectHTTPStatusError
from prefect.utilities.asyncutils import run_coro_as_sync
from prefect.workers.base import BaseJobConfiguration
from pydantic import ConfigDict

from tasks.core.home import PROJECT

pytestmark = pytest.mark.usefixtures("prefect")

POOLS = PROJECT / "data" / "pools"
KINDS = ("docker", "kubernetes")
DEPLOYMENTS = {
    each["name"]: each["work_pool"]["job_variables"]
    for each in yaml.safe_load((PROJECT / "prefect.yaml").read_text())["deployments"]
}
GPU, CPU = DEPLOYMENTS["stage-finetune"], DEPLOYMENTS["stage-merge"]
REMOTE = {"remote": "s3://bucket/kawan-usaha"}
HOME = "/var/lib/kawan-usaha"


def template_of(kind: str) -> dict[str, Any]:
    return json.loads((POOLS / f"{kind}.json").read_text())


class Filled(BaseJobConfiguration):
    """What Prefect makes of a template, with the fields that only one kind of worker knows."""

    model_config = ConfigDict(extra="allow")


def filled(kind: str, values: dict[str, Any], cls: type = Filled) -> Any:
    job = cls.from_template_and_values(template_of(kind), values)
    return run_coro_as_sync(job)


def pod_of(job: Any) -> dict[str, Any]:
    return job.job_manifest["spec"]["template"]["spec"]


@pytest.fixture
def client() -> SyncPrefectClient:
    with get_client(sync_client=True) as made:
        yield made


@flow
def some_stage() -> None: ...


def deploy(client: SyncPrefectClient, kind: str, values: dict[str, Any]) -> None:
    pool = client.create_work_pool(
        WorkPoolCreate(name=f"{kind}-{uuid4()}", type=kind, base_job_template=template_of(kind))
    )
    assert pool.base_job_template == template_of(kind)
    client.create_deployment(
        client.create_flow(some_stage),
        name=pool.name,
        work_pool_name=pool.name,
        job_variables=values,
    )


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [
        ("docker", {"device_requests": "all"}),
        ("docker", {"shared_memory": 8}),
        ("kubernetes", {"gpus": "many"}),
        ("kubernetes", {"home_size": 200}),
    ],
)
def test_server_refuses_a_wrong_variable(
    client: SyncPrefectClient, kind: str, wrong: dict[str, Any]
) -> None:
    with pytest.raises(PrefectHTTPStatusError, match=next(iter(wrong))):
        deploy(client, kind, wrong)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("values", [GPU, CPU], ids=["gpu", "cpu"])
def test_server_takes_the_template_and_a_deployment_of_prefect_yaml(
    client: SyncPrefectClient, kind: str, values: dict[str, Any]
) -> None:
    deploy(client, kind, values)


@pytest.mark.parametrize("kind", KINDS)
def test_every_variable_is_used_and_every_one_that_is_used_exists(kind: str) -> None:
    template = template_of(kind)
    used = set(re.findall(r"{{ (\w+) }}", json.dumps(template["job_configuration"])))
    # Prefect adds the environment of a deployment to the one that stands in the template.
    assert used | {"env"} == set(template["variables"]["properties"])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", sorted(DEPLOYMENTS))
def test_nothing_is_left_open_for_any_deployment(kind: str, name: str) -> None:
    assert "{{" not in filled(kind, DEPLOYMENTS[name]).model_dump_json()


@pytest.mark.parametrize("kind", KINDS)
def test_run_gets_home_remote_and_the_deployments_environment(kind: str) -> None:
    env = filled(kind, {**GPU, **REMOTE}).env
    assert env["KAWAN_USAHA_HOME"] == HOME
    assert env["KAWAN_USAHA_REMOTE"] == REMOTE["remote"]
    assert (
        env["PREFECT_FLOWS_HEARTBEAT_FREQUENCY"] == GPU["env"]["PREFECT_FLOWS_HEARTBEAT_FREQUENCY"]
    )
    assert "KAWAN_USAHA_REMOTE" not in filled(kind, GPU).env


@pytest.mark.parametrize("values", [GPU, CPU], ids=["gpu", "cpu"])
def test_docker_takes_the_devices_shared_memory_and_volumes(values: dict[str, Any]) -> None:
    """Docker's own client makes of it what it would send."""
    job = filled("docker", values)
    given = {k: v for k, v in job.container_create_kwargs.items() if k != "init"}
    host = HostConfig(version="1.44", binds=job.volumes, **given)
    asked = [(each["Count"], each["Capabilities"]) for each in host["DeviceRequests"]]
    assert asked == ([(-1, [["gpu"]])] if values is GPU else [])
    assert host["ShmSize"] == 8 << 30
    assert f"kawan-usaha-home:{HOME}" in host["Binds"]


def test_pod_asks_for_a_gpu_only_where_the_stage_needs_one() -> None:
    asked = [
        pod_of(filled("kubernetes", each))["containers"][0]["resources"]["limits"]
        for each in (GPU, CPU)
    ]
    assert [limits.get("nvidia.com/gpu") for limits in asked] == [1, None]


def test_pod_has_a_disk_of_its_own_and_shared_memory() -> None:
    pod = pod_of(filled("kubernetes", {**GPU, "home_size": "1Ti", "shared_memory": "64Gi"}))
    home, memory = pod["volumes"]
    claim = home["ephemeral"]["volumeClaimTemplate"]["spec"]
    assert claim["resources"]["requests"]["storage"] == "1Ti"
    assert "storageClassName" not in claim  # the cluster's default
    assert memory["emptyDir"] == {"medium": "Memory", "sizeLimit": "64Gi"}
    mounts = {each["name"]: each["mountPath"] for each in pod["containers"][0]["volumeMounts"]}
    assert mounts == {"home": HOME, "shared-memory": "/dev/shm"}  # noqa: S108 - in the pod


def test_secrets_are_named_and_never_written_down() -> None:
    pod = pod_of(filled("kubernetes", {"secret_name": "ours"}))
    assert pod["containers"][0]["envFrom"] == [{"secretRef": {"name": "ours"}}]
    docker = filled("docker", {})
    paths = [docker.env["HF_TOKEN_PATH"], docker.env["AWS_SHARED_CREDENTIALS_FILE"]]
    assert all(path.startswith("/run/secrets/") for path in paths)
    assert any(volume.endswith(":/run/secrets:ro") for volume in docker.volumes)


@pytest.mark.parametrize("kind", KINDS)
def test_image_is_the_one_that_the_dockerfile_makes(kind: str) -> None:
    image = template_of(kind)["variables"]["properties"]["image"]["default"]
    version = re.search(r'^version = "(.+)"', (PROJECT / "pyproject.toml").read_text(), re.M)
    assert version is not None
    assert image == f"kawan-usaha-llm:{version[1]}"
    text = (POOLS / "Dockerfile").read_text()
    assert f"--tag {image} ." in text
    assert f"KAWAN_USAHA_HOME={HOME}" in text


def test_dockerfile_copies_what_exists_and_ignores_all_else() -> None:
    text = (POOLS / "Dockerfile").read_text()
    copied = [name for line in re.findall(r"^COPY (.+) \S+$", text, re.M) for name in line.split()]
    listed = (POOLS / "Dockerfile.dockerignore").read_text().splitlines()
    assert sorted(copied) == sorted(line[1:] for line in listed if line.startswith("!"))
    assert all((PROJECT / name).exists() for name in copied)


def test_docker_worker_of_prefect_fills_the_template() -> None:
    worker = pytest.importorskip("prefect_docker.worker")
    job = filled("docker", {**GPU, **REMOTE}, worker.DockerWorkerJobConfiguration)
    job.prepare_for_flow_run(FlowRun(flow_id=uuid4(), name="merge"))
    assert job.image.startswith("kawan-usaha-llm:")
    assert job.command == "prefect flow-run execute"


def test_kubernetes_worker_of_prefect_fills_the_template() -> None:
    worker = pytest.importorskip("prefect_kubernetes.worker")
    job = filled("kubernetes", {**GPU, **REMOTE}, worker.KubernetesWorkerJobConfiguration)
    job.prepare_for_flow_run(FlowRun(flow_id=uuid4(), name="merge"))
    (container,) = pod_of(job)["containers"]
    env = {each["name"]: each["value"] for each in container["env"]}
    assert env["KAWAN_USAHA_REMOTE"] == REMOTE["remote"]
    assert env["PREFECT_FLOW_RUN_EXECUTE_SIGTERM_BEHAVIOR"] == "reschedule"
    assert container["args"] == ["prefect", "flow-run", "execute"]
    assert job.job_manifest["metadata"]["generateName"] == "merge-"
