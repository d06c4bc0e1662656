"""No process that runs a model's code is told a secret."""

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from tasks.core.architecture.proof import fresh_process
from tasks.core.architecture.proof.edit_proof import prove_edit
from tasks.core.errors import EditLost, EvaluationFailed
from tasks.core.evaluation import benchmarks, evaluate
from tasks.core.evaluation.evaluate import evaluate_models
from tasks.core.evaluation.figures import Subject
from tasks.core.process import NETWORK, child_environment, run_child
from tasks.core.progress import silent
from tasks.core.recipe import ActivationEdit, Edit, Evaluate, Finetune
from tasks.core.training.job import TrainingJob
from tasks.core.training.launch import start
from tasks.core.training.launch.start import launch, training_environment
from tests.models import tiny_llama
from tests.prefork import handed_over, preforked
from tests.secrets import SECRETS, SESAME, Spy, files_that_tell, spy_on_children


def forked(argv: Sequence[str]) -> list[str]:
    """Have a Python be started for this module that lets a preforked one go on in its place."""
    module = argv.index("-m") + 1
    return handed_over(preforked("torch", *argv[module:]))


@pytest.fixture
def spy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Spy:
    """Sees what is started; that has the environment that it was given, and no large imports."""
    preforked("torch", "")  # now: the server itself is to know no secret
    for module, name in (
        (fresh_process, "quick_start"),
        (evaluate, "quick_start"),
        (benchmarks, "_command"),
    ):
        real = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *words, real=real: forked(real(*words)))
    monkeypatch.setattr(
        start,
        "launch_command",
        lambda *words, real=start.launch_command, **options: replace(
            found := real(*words, **options), argv=forked(found.argv)
        ),
    )
    return spy_on_children(tmp_path / "spy", monkeypatch)


@pytest.fixture
def work(tmp_path: Path) -> Path:
    path = tmp_path / "work"
    path.mkdir()
    return path


def tracked_by(*trackers: str) -> dict[str, str]:
    return training_environment(Finetune(device="cpu", report_to=trackers), SECRETS)


# --- the rule --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SECRETS)
def test_a_secret_is_not_handed_on(name: str) -> None:
    assert name not in child_environment(SECRETS)


def test_what_computing_needs_is_handed_on() -> None:
    needed = dict.fromkeys(
        ["PATH", "HOME", "LC_ALL", "CUDA_VISIBLE_DEVICES", "NCCL_DEBUG", "HF_HOME", "PYTHONPATH"],
        "x",
    )
    assert child_environment(needed).items() >= needed.items()


def test_the_network_is_for_those_that_ask_for_it() -> None:
    proxy = {"https_proxy": "http://proxy"}
    assert not child_environment(proxy).items() & proxy.items()
    assert child_environment(proxy, *NETWORK).items() >= proxy.items()


def test_a_machine_can_name_what_it_needs_besides() -> None:
    environ = {"KAWAN_USAHA_CHILD_ENVIRONMENT": "SLURM_*, SITE", "SLURM_A": "1", "SITE": "2"}
    child = child_environment({**environ, "SITE_TOKEN": "3"})
    assert (child["SLURM_A"], child["SITE"], "SITE_TOKEN" in child) == ("1", "2", False)


def test_threads_of_a_child_leave_their_cores_to_others_unless_it_is_told_otherwise() -> None:
    assert child_environment({})["GOMP_SPINCOUNT"] == "1000"
    assert child_environment({"GOMP_SPINCOUNT": "7"})["GOMP_SPINCOUNT"] == "7"
    # libgomp would heed the count alone.
    assert "GOMP_SPINCOUNT" not in child_environment({"OMP_WAIT_POLICY": "ACTIVE"})


def test_a_trackers_key_is_for_the_training_that_reports_to_it() -> None:
    assert "WANDB_API_KEY" not in tracked_by()
    assert "WANDB_API_KEY" not in tracked_by("mlflow")
    told = {name for name, value in tracked_by("wandb").items() if SESAME in value}
    assert told == {"WANDB_API_KEY", "HTTPS_PROXY"}


# --- real children ---------------------------------------------------------------------------


def test_the_login_of_the_hub_is_not_found_by_a_child(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "token").write_text("hf_login")
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.setenv("HF_TOKEN", "hf_variable")
    ask = [sys.executable, "-c", "import huggingface_hub as h; print(h.get_token())"]
    assert run_child(ask, env=os.environ).tail[-1] == "hf_variable"
    assert run_child(ask).tail[-1] == "None"


def test_the_proof_of_an_edit_knows_no_secret(spy: Spy, work: Path) -> None:
    # Headers tell nothing of it, so that only the process can find it.
    with pytest.raises(EditLost):
        prove_edit(
            tiny_llama(work / "unedited"),
            Edit(activations=(ActivationEdit(layers=(-1,), activation="gelu"),)),
        )
    (told,) = spy.of("tasks.core.architecture.proof.entry")
    assert SESAME not in told


def test_the_training_processes_know_no_secret(spy: Spy, work: Path) -> None:
    job = TrainingJob(
        model=work / "no-model",
        examples=work / "none",
        validation_examples=None,
        settings=Finetune(device="cpu", precision="float32"),
        group_size=None,
        total_steps=1,
        validation_interval=None,
        pad_token_id=0,
        checkpoints=work / "checkpoints",
        resume_from=None,
        adapter=work / "adapter",
        outcome=work / "outcome.json",
    )
    assert not launch(job, work / "job.json", on_progress=silent, on_line=lambda _: None).succeeded
    assert len(spy.of("tasks.core.training.entry")) == 1
    assert not any(SESAME in told for told in spy.processes())
    assert files_that_tell(work) == []


def test_the_measuring_process_and_lm_eval_know_no_secret(spy: Spy, work: Path) -> None:
    turns = [{"from": "human", "value": "Halo?"}, {"from": "gpt", "value": "Halo juga."}]
    (work / "data.json").write_text(json.dumps([{"id": "a", "conversations": turns}]))
    (work / "prompts.json").write_text(json.dumps([{"id": "p", "prompt": "NIB?"}]))
    settings = Evaluate(
        conversations=work / "data.json",
        prompts=work / "prompts.json",
        max_new_tokens=1,
        device="cpu",
        benchmarks=("no-such-benchmark",),
    )
    subjects = [Subject(role="merged", path=tiny_llama(work / "model", dtype="float32"))]
    with pytest.raises(EvaluationFailed, match="benchmarks"):
        evaluate_models(subjects, settings, template="vicuna_v1.1", out=work)
    (measuring,) = spy.of("tasks.core.evaluation.entry")
    (lm_eval,) = spy.of("lm_eval")
    assert SESAME not in measuring
    told = {line.partition("=")[0] for line in lm_eval.split("\0") if SESAME in line}
    assert told == {"HTTPS_PROXY"}  # it may have to load its data
    assert files_that_tell(work) == []
