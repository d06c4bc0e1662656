import json
from pathlib import Path

import pytest

from tasks.core.conversation.prepared import prepare_examples
from tasks.core.errors import DataError
from tasks.core.recipe import Finetune
from tasks.core.training.prepare import prepare_job
from tasks.core.training.request import TrainingRequest
from tasks.core.weights.index import read_index
from tests.models import tiny_llama

STARTER = Path(__file__).parents[3] / "data" / "conversation.json"
TEMPLATE = "vicuna_v1.1"
SETTINGS = Finetune(max_length_tokens=4096, validation_share=0.2, device="cpu")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return tiny_llama(tmp_path / "model", layers=1)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "conversation.json"
    path.write_text(json.dumps(json.loads(STARTER.read_text())[:20]))
    return path


def test_prepared_examples_make_the_same_job_as_the_file(
    tmp_path: Path, model: Path, data: Path
) -> None:
    prepared = tmp_path / "prepared"
    prepared.mkdir()
    prepare_examples(model, data, SETTINGS, TEMPLATE, out=prepared)
    jobs = [
        prepare_job(
            read_index(model),
            TrainingRequest(model, SETTINGS, source, TEMPLATE, tmp_path / name),
            SETTINGS,
        )
        for name, source in (("one", data), ("other", prepared))
    ]
    own, shared = (made.job for made in jobs)
    assert own.validation_examples is not None and shared.validation_examples is not None
    assert own.examples.read_bytes() == shared.examples.read_bytes()
    assert own.validation_examples.read_bytes() == shared.validation_examples.read_bytes()
    assert (own.total_steps, own.pad_token_id) == (shared.total_steps, shared.pad_token_id)
    assert jobs[0].counts == jobs[1].counts
    assert shared.examples == prepared / "examples.safetensors"
    identities = [
        (tmp_path / name / "work" / "checkpoints" / "identity.json") for name in ("one", "other")
    ]
    assert identities[0].read_bytes() == identities[1].read_bytes()


def test_examples_of_another_length_are_refused(tmp_path: Path, model: Path, data: Path) -> None:
    prepared = tmp_path / "prepared"
    prepared.mkdir()
    prepare_examples(model, data, SETTINGS, TEMPLATE, out=prepared)
    with pytest.raises(DataError, match="prepared for other settings"):
        longer = SETTINGS.model_copy(update={"max_length_tokens": 2048})
        request = TrainingRequest(model, longer, prepared, TEMPLATE, tmp_path)
        prepare_job(read_index(model), request, longer)


def test_packing_takes_fewer_steps_an_epoch(tmp_path: Path, model: Path, data: Path) -> None:
    steps = {}
    for choice in ("pad", "pack"):
        settings = SETTINGS.model_copy(
            update={"batching": choice, "micro_batch_size": 1, "gradient_accumulation_steps": 1}
        )
        request = TrainingRequest(model, settings, data, TEMPLATE, tmp_path / choice)
        made = prepare_job(read_index(model), request, settings)
        steps[choice] = made.job.total_steps
    assert steps["pack"] < steps["pad"] / 1.5
