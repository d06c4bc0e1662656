"""Whether another machine may answer for a deployment: asked before anything is touched."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.core.errors import EditLost, ServingFailed, UsageError
from tasks.core.model.edit_fingerprint import FINGERPRINT_FILE, EditFingerprint
from tasks.core.recipe import Deploy
from tasks.core.serving.client.access import Access
from tasks.core.serving.client.request import KeyRefused
from tasks.core.serving.client.worker_access import read_access, write_access
from tasks.core.serving.health.workers import access_to, look_at_workers, require_workers
from tasks.core.serving.proof.prompt_logprobs import ask_prompt
from tasks.core.serving.state.directory import StateDirectory
from tasks.core.serving.state.record import Deployment
from tests.deployments import deployment
from tests.tls import certified
from tests.unit.serving.gateway.world import Engine, Gateway, a_route, free_port

KEY = "rahasia-antar-mesin"
VARIABLE = "KAWAN_USAHA_GPU2_KEY"
PROMPT = (1, 5, 9, 13, 20, 31)


@pytest.fixture(scope="module")
def worker(
    tmp_path_factory: pytest.TempPathFactory, model: Path, shared_engine: Engine
) -> Iterator[Gateway]:
    """The gateway of another machine, which wants a key."""
    directory = tmp_path_factory.mktemp("worker")
    keys = directory / "keys.json"
    keys.write_text(json.dumps([{"name": "front", "key": KEY}]))
    keys.chmod(0o600)
    route = a_route(model, [shared_engine.url], takes=["logprobs", "prompt_logprobs"])
    gateway = Gateway(directory, route, gateway={"keys_file": str(keys)})
    yield gateway
    gateway.end()


def front(tmp_path: Path, model: Path, url: str, **changes: object) -> Deployment:
    """The record of a deployment with this worker."""
    worker = {"name": "gpu2", "url": url, "token_variable": VARIABLE, **changes.pop("worker", {})}
    engine = changes.pop("engine", "transformers")
    values = {"expected_edit": None, **changes}
    settings = Deploy(engine=engine, workers=(worker,))
    return deployment(StateDirectory(tmp_path / "kawan"), model=model, settings=settings, **values)


def known(url: str, key: str = KEY) -> dict[str, Access]:
    return {url: Access(key=key)}


def test_a_worker_with_the_same_build_may_answer(tmp_path, model, worker):
    require_workers(front(tmp_path, model, worker.url), known(worker.url))


def test_without_its_key_it_says_which_variable_is_missing(tmp_path, model, worker):
    with pytest.raises(UsageError) as refused:
        require_workers(front(tmp_path, model, worker.url), {})
    assert refused.value.where == VARIABLE


def test_a_wrong_key_is_told_as_one_and_is_not_shown(tmp_path, model, worker):
    with pytest.raises(KeyRefused, match="gpu2 does not accept the key") as refused:
        require_workers(
            front(tmp_path, model, worker.url), known(worker.url, "not-that-key-at-all")
        )
    assert VARIABLE in refused.value.expected
    assert "not-that-key" not in str(refused.value)


def test_a_worker_that_is_not_there_is_told(tmp_path, model):
    url = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(ServingFailed, match="gpu2 does not answer"):
        require_workers(front(tmp_path, model, url), known(url))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"build": "b2"}, "build b2"),
        ({"template": "zero_shot"}, "template zero_shot"),
    ],
)
def test_a_worker_that_serves_something_else_is_refused(tmp_path, model, worker, change, named):
    with pytest.raises(ServingFailed, match="gpu2 serves another model") as refused:
        require_workers(front(tmp_path, model, worker.url, **change), known(worker.url))
    assert refused.value.expected == named


def test_a_worker_whose_engine_can_do_less_is_refused(tmp_path, model, engine, start):
    vllm = start(Gateway, a_route(model, [engine.url], engine="vllm"))
    with pytest.raises(ServingFailed, match="supports less") as refused:
        require_workers(front(tmp_path, model, vllm.url), known(vllm.url))
    assert "embeddings, more than 4 texts as `stop`" in refused.value.expected


@pytest.mark.parametrize(("off_by", "lost"), [(0.0, False), (3.0, True)])
def test_a_worker_is_held_to_the_answers_of_the_edited_model(tmp_path, model, worker, off_by, lost):
    """Its word for the build is not enough: another model under the same name is found out."""
    said = ask_prompt(worker.url, "Kawan-Usaha", PROMPT, access=Access(key=KEY)).logprobs
    edited = tmp_path / "edited"
    edited.mkdir()
    fingerprint = EditFingerprint(
        prompt_ids=PROMPT,
        edited=tuple(value + off_by for value in said),
        unedited=tuple(value + off_by - 1 for value in said),
        dtype="float32",
        versions={},
    )
    (edited / FINGERPRINT_FILE).write_text(fingerprint.model_dump_json())
    wanted = front(tmp_path, edited, worker.url, expected_edit={"activations": ["gelu"]})
    if lost:
        with pytest.raises(EditLost):
            require_workers(wanted, known(worker.url))
    else:
        require_workers(wanted, known(worker.url))


def test_the_key_is_taken_from_the_environment_and_the_certificate_from_its_file(tmp_path, model):
    made = certified(tmp_path / "tls")
    given = {"ca_file": made.certificate}
    wanted = front(tmp_path, model, "https://gpu2.example.com", worker=given)
    (access,) = access_to(wanted, {VARIABLE: KEY}).values()
    assert access.key == KEY
    assert access.certificate == made.certificate.read_text()
    assert access_to(wanted, {}) == {}


@pytest.mark.parametrize("content", [None, "no certificate"])
def test_a_certificate_that_is_none_is_refused(tmp_path, model, content):
    file = tmp_path / "certificate.pem"
    if content is not None:
        file.write_text(content)
    wanted = front(tmp_path, model, "https://gpu2.example.com", worker={"ca_file": file})
    with pytest.raises(UsageError, match="gpu2 cannot be used"):
        access_to(wanted, {VARIABLE: KEY})


def test_what_is_put_down_is_its_owners_alone_and_shows_no_key(tmp_path):
    file = tmp_path / "workers.json"
    write_access(file, known("https://gpu2"))
    assert file.stat().st_mode & 0o077 == 0
    assert read_access(file) == known("https://gpu2")
    assert KEY not in repr(read_access(file))
    file.write_text(f'{{"https://gpu2": {{"key": "{KEY}", "more": 1}}}}')
    with pytest.raises(ServingFailed) as refused:
        read_access(file)
    assert KEY not in str(refused.value)


def test_status_tells_of_each_worker_what_is_the_matter(tmp_path, model, worker):
    wanted, keys = front(tmp_path, model, worker.url), tmp_path / "workers.json"
    write_access(keys, known(worker.url))
    (well,) = look_at_workers(wanted, keys)
    (ill,) = look_at_workers(wanted.model_copy(update={"build": "b2"}), keys)
    (locked_out,) = look_at_workers(wanted, tmp_path / "none.json")
    assert (well.name, well.problem) == ("gpu2", None)
    assert "another model" in ill.problem
    assert "build b1" in ill.problem
    assert "key" in locked_out.problem
