import json
import math
from pathlib import Path

import pytest
import torch
from torch.nn import functional
from transformers import AutoModelForCausalLM, AutoTokenizer

from tasks.core.conversation.labels import Encoder
from tasks.core.conversation.reading import load
from tasks.core.evaluation.entry import main
from tasks.core.evaluation.figures import EvaluationJob, Outcome, Role, Subject
from tasks.core.recipe import Evaluate
from tests.models import tiny_llama

TEMPLATE = "vicuna_v1.1"


def conversation(name: str, *texts: str) -> dict[str, object]:
    speakers = ["human", "gpt"] * len(texts)
    turns = [{"from": who, "value": text} for who, text in zip(speakers, texts, strict=False)]
    return {"id": name, "conversations": turns}


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> EvaluationJob:
    root = tmp_path_factory.mktemp("evaluation")
    records = [
        conversation("a", "Halo, apa kabar?", "Kabar baik. Ada yang bisa saya bantu?"),
        conversation("b", "Berapa modal?", "Dua juta.", "Untung?", "Lima ratus ribu é."),
    ]
    (root / "held_out.json").write_text(json.dumps(records))
    prompts = [{"id": "p", "prompt": "Apa itu NIB?"}, {"id": "q", "prompt": "Apa itu laba?"}]
    (root / "prompts.json").write_text(json.dumps(prompts))
    (root / "scratch").mkdir()
    roles: tuple[Role, ...] = ("merged", "edited")
    subjects = [
        Subject(role=role, path=tiny_llama(root / role, seed=seed, dtype="float32"))
        for seed, role in enumerate(roles)
    ]
    return EvaluationJob(
        subjects=tuple(subjects),
        template=TEMPLATE,
        scratch=root / "scratch",
        settings=Evaluate(
            conversations=root / "held_out.json",
            prompts=root / "prompts.json",
            max_prompts=1,
            max_new_tokens=5,
            device="cpu",
        ),
    )


def run(job: EvaluationJob, tmp_path: Path) -> tuple[int, str]:
    (tmp_path / "job.json").write_text(job.model_dump_json())
    code = main(tmp_path / "job.json", tmp_path / "outcome.json")
    return code, (tmp_path / "outcome.json").read_text()


@pytest.fixture(scope="module")
def outcome(job: EvaluationJob, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    code, text = run(job, tmp_path_factory.mktemp("outcome"))
    assert code == 0
    return Outcome.model_validate_json(text)


@torch.inference_mode()
def logits_and_labels(path: Path, job: EvaluationJob) -> tuple[torch.Tensor, torch.Tensor]:
    """The same figures by plain transformers: no mask of ours but the labels."""
    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
    encoder = Encoder(AutoTokenizer.from_pretrained(path), TEMPLATE, 2048)
    logits, labels = [], []
    for record in load(job.settings.conversations):
        example = encoder.encode(record)
        logits.append(model(torch.tensor([example.input_ids])).logits[0, :-1])
        labels.append(torch.tensor(example.labels[1:]))
    return torch.cat(logits), torch.cat(labels)


@pytest.mark.parametrize("index", [0, 1])
def test_perplexity_equals_an_independent_computation(
    job: EvaluationJob, outcome: Outcome, index: int
) -> None:
    logits, labels = logits_and_labels(job.subjects[index].path, job)
    expected = functional.cross_entropy(logits, labels, ignore_index=-100).exp().item()
    figures = outcome.figures[index]
    assert figures.perplexity == pytest.approx(expected, rel=1e-5)
    assert figures.tokens == int((labels >= 0).sum())


def test_perplexity_a_byte_counts_the_bytes_of_the_answers(outcome: Outcome) -> None:
    answers = "Kabar baik. Ada yang bisa saya bantu?", "Dua juta.", "Lima ratus ribu é."
    figures = outcome.figures[0]
    assert figures.utf8_bytes == sum(len(text.encode()) for text in answers)
    assert math.log(figures.perplexity_per_byte) == pytest.approx(
        figures.nll_nats / figures.utf8_bytes
    )


def test_kl_and_agreement_equal_an_independent_computation(
    job: EvaluationJob, outcome: Outcome
) -> None:
    (before, labels), (after, _) = (logits_and_labels(s.path, job) for s in job.subjects)
    before, after = before[labels >= 0], after[labels >= 0]
    expected = functional.kl_div(
        after.log_softmax(-1), before.log_softmax(-1), log_target=True, reduction="batchmean"
    )
    agreement = (before.argmax(-1) == after.argmax(-1)).float().mean()
    comparison = outcome.between("merged", "edited")
    assert comparison is not None
    assert comparison.kl_divergence_nats == pytest.approx(expected.item(), rel=1e-4)
    assert comparison.top1_agreement == pytest.approx(agreement.item())


def test_model_against_itself_has_no_distance(job: EvaluationJob, tmp_path: Path) -> None:
    same = Subject(role="edited", path=job.subjects[0].path)
    code, text = run(job.model_copy(update={"subjects": (job.subjects[0], same)}), tmp_path)
    assert code == 0
    (comparison,) = Outcome.model_validate_json(text).comparisons
    assert comparison.kl_divergence_nats == pytest.approx(0.0, abs=1e-9)
    assert comparison.top1_agreement == 1.0


def test_answers_are_greedy_and_side_by_side(job: EvaluationJob, outcome: Outcome) -> None:
    assert [(a.role, a.prompt_id) for a in outcome.answers] == [("merged", "p"), ("edited", "p")]
    assert all(0 < answer.tokens <= 5 for answer in outcome.answers)


def test_nothing_is_left_in_the_scratch_directory_but_the_last_model(
    job: EvaluationJob, outcome: Outcome
) -> None:
    assert outcome.figures
    assert [path.name for path in job.scratch.iterdir()] in (["edited.f32"], [])


def test_other_vocabularies_are_not_compared(job: EvaluationJob, tmp_path: Path) -> None:
    other = Subject(role="edited", path=tiny_llama(tmp_path / "m", vocab=400, dtype="float32"))
    code, text = run(job.model_copy(update={"subjects": (job.subjects[0], other)}), tmp_path)
    assert code == 0
    assert Outcome.model_validate_json(text).comparisons == ()


def test_length_in_which_no_answer_fits_is_an_error(job: EvaluationJob, tmp_path: Path) -> None:
    short = job.settings.model_copy(update={"max_length_tokens": 16})
    code, text = run(job.model_copy(update={"settings": short}), tmp_path)
    assert code == 1
    assert "Raise evaluate.max_length_tokens" in json.loads(text)["error"]["next_step"]


@pytest.mark.parametrize("content", ["{", '[{"id": "p"}]', '"text"'])
def test_prompts_that_are_none_are_refused(
    job: EvaluationJob, tmp_path: Path, content: str
) -> None:
    (tmp_path / "prompts.json").write_text(content)
    wrong = job.settings.model_copy(update={"prompts": tmp_path / "prompts.json"})
    code, text = run(job.model_copy(update={"settings": wrong}), tmp_path)
    assert code == 1
    assert json.loads(text)["error"]["what"] == "The prompts cannot be read."
