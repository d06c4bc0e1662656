import errno
import json
import math
import os
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.nn import functional
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM

from tasks.core.conversation.examples.labels import Encoder, Example
from tasks.core.conversation.template.render import get_template
from tasks.core.errors import DataError
from tasks.core.evaluation import chain_figures, loading, measuring
from tasks.core.evaluation.entry import main
from tasks.core.evaluation.figures import EvaluationJob, EvaluationOutcome, Role, subjects_of
from tasks.core.evaluation.pace import Throttled
from tasks.core.evaluation.predictions import ROWS, PredictionReader, StoredPredictions
from tasks.core.evaluation.prompts import read_prompts
from tasks.core.evaluation.scoring import score
from tasks.core.recipe import Evaluate
from tests.conversations import load_conversations
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
    prompts = [
        {"id": "p", "kind": "chat", "prompt": "Apa itu NIB?"},
        {"id": "q", "kind": "chat", "prompt": "Apa itu laba?"},
        {"id": "r", "kind": "article", "prompt": "Tulis artikel tentang modal."},
    ]
    (root / "prompts.json").write_text(json.dumps(prompts))
    (root / "scratch").mkdir()
    models = [
        tiny_llama(root / name, seed=seed, dtype="float32")
        for seed, name in enumerate(("merged", "edited", "before"))
    ]
    return EvaluationJob(
        subjects=subjects_of([("merged", models[0]), ("edited", models[1])], before=models[2]),
        template=TEMPLATE,
        scratch=root / "scratch",
        settings=Evaluate(
            conversations=root / "held_out.json",
            prompts=root / "prompts.json",
            max_prompts=2,
            max_new_tokens=5,
            device="cpu",
        ),
    )


def run(job: EvaluationJob, tmp_path: Path) -> tuple[int, str]:
    (tmp_path / "job.json").write_text(job.model_dump_json())
    code = main(str(tmp_path / "job.json"), str(tmp_path / "outcome.json"))
    return code, (tmp_path / "outcome.json").read_text()


@pytest.fixture(scope="module")
def outcome(job: EvaluationJob, tmp_path_factory: pytest.TempPathFactory) -> EvaluationOutcome:
    code, text = run(job, tmp_path_factory.mktemp("outcome"))
    assert code == 0
    return EvaluationOutcome.model_validate_json(text)


@torch.inference_mode()
def logits_and_labels(path: Path, job: EvaluationJob) -> tuple[torch.Tensor, torch.Tensor]:
    """The same figures by plain transformers: no mask of ours but the labels."""
    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
    encoder = Encoder(AutoTokenizer.from_pretrained(path), TEMPLATE, 2048)
    logits, labels = [], []
    for record in load_conversations(job.settings.conversations):
        example = encoder.encode(record)
        logits.append(model(torch.tensor([example.input_ids])).logits[0, :-1])
        labels.append(torch.tensor(example.labels[1:]))
    return torch.cat(logits), torch.cat(labels)


@pytest.mark.parametrize("index", [0, 1, 2])
def test_perplexity_equals_an_independent_computation(
    job: EvaluationJob, outcome: EvaluationOutcome, index: int
) -> None:
    logits, labels = logits_and_labels(job.subjects[index].path, job)
    expected = functional.cross_entropy(logits, labels, ignore_index=-100).exp().item()
    figures = outcome.figures[index]
    assert figures.perplexity == pytest.approx(expected, rel=1e-5)
    assert figures.tokens == int((labels >= 0).sum())


def test_perplexity_a_byte_counts_the_bytes_of_the_answers(outcome: EvaluationOutcome) -> None:
    answers = "Kabar baik. Ada yang bisa saya bantu?", "Dua juta.", "Lima ratus ribu é."
    figures = outcome.figures[0]
    assert figures.utf8_bytes == sum(len(text.encode()) for text in answers)
    assert math.log(figures.perplexity_per_byte) == pytest.approx(
        figures.nll_nats / figures.utf8_bytes
    )


def test_each_conversation_has_its_share_of_the_figures(
    job: EvaluationJob, outcome: EvaluationOutcome
) -> None:
    logits, labels = logits_and_labels(job.subjects[0].path, job)
    nats = functional.cross_entropy(logits, labels, ignore_index=-100, reduction="none")
    tokenizer = AutoTokenizer.from_pretrained(job.subjects[0].path)
    encoder = Encoder(tokenizer, TEMPLATE, 2048)
    first = len(encoder.encode(load_conversations(job.settings.conversations)[0]).input_ids) - 1
    figures = outcome.figures[0]
    assert [read.position for read in figures.reads] == [1, 2]
    one, other = figures.of_records({1}), figures.of_records({2})
    assert one is not None
    assert other is not None
    assert one.nll_nats == pytest.approx(nats[:first].sum().item(), rel=1e-5)
    assert one.nll_nats + other.nll_nats == pytest.approx(figures.nll_nats)
    assert one.tokens + other.tokens == figures.tokens
    assert one.utf8_bytes + other.utf8_bytes == figures.utf8_bytes
    assert figures.of_records({3}) is None


@pytest.mark.parametrize(("before", "after"), [("merged", "edited"), ("release before", "edited")])
def test_kl_and_agreement_equal_an_independent_computation(
    job: EvaluationJob, outcome: EvaluationOutcome, before: Role, after: Role
) -> None:
    path = {subject.role: subject.path for subject in job.subjects}
    first, labels = logits_and_labels(path[before], job)
    second, _ = logits_and_labels(path[after], job)
    first, second = first[labels >= 0], second[labels >= 0]
    expected = functional.kl_div(
        second.log_softmax(-1), first.log_softmax(-1), log_target=True, reduction="batchmean"
    )
    agreement = (first.argmax(-1) == second.argmax(-1)).float().mean()
    comparison = outcome.between(before, after)
    assert comparison is not None
    assert comparison.kl_divergence_nats == pytest.approx(expected.item(), rel=1e-4)
    assert comparison.top1_agreement == pytest.approx(agreement.item())


def test_each_model_is_held_against_its_neighbour_and_the_last_against_the_release_too() -> None:
    models: list[tuple[Role, Path]] = [
        ("base", Path("a")),
        ("merged", Path("b")),
        ("edited", Path("c")),
    ]
    assert [(s.role, s.against) for s in subjects_of(models, before=Path("d"))] == [
        ("release before", ()),
        ("base", ()),
        ("merged", ("base",)),
        ("edited", ("merged", "release before")),
    ]


def test_model_against_itself_has_no_distance(job: EvaluationJob, tmp_path: Path) -> None:
    model = job.subjects[1].path
    same = subjects_of([("merged", model), ("edited", model)])
    code, text = run(job.model_copy(update={"subjects": same}), tmp_path)
    assert code == 0
    (comparison,) = EvaluationOutcome.model_validate_json(text).comparisons
    assert comparison.kl_divergence_nats == pytest.approx(0.0, abs=1e-9)
    assert comparison.top1_agreement == 1.0


def test_models_whose_ids_mean_other_tokens_are_not_compared(
    job: EvaluationJob, tmp_path: Path
) -> None:
    """Two letters that no conversation holds have changed places: the ids read are the same."""
    other = shutil.copytree(job.subjects[1].path, tmp_path / "other")
    file = other / "tokenizer.json"
    content = json.loads(file.read_text())
    vocabulary = content["model"]["vocab"]
    vocabulary["Q"], vocabulary["X"] = vocabulary["X"], vocabulary["Q"]
    file.write_text(json.dumps(content))
    subjects = subjects_of([("merged", job.subjects[1].path), ("edited", other)])
    code, text = run(job.model_copy(update={"subjects": subjects}), tmp_path)
    assert code == 0
    found = EvaluationOutcome.model_validate_json(text)
    assert found.comparisons == ()
    assert found.figures[0].tokens == found.figures[1].tokens
    assert not found.figures[1].has_tokenizer_of(found.figures[0])


def test_figures_say_which_tokenizer_it_was(outcome: EvaluationOutcome) -> None:
    assert outcome.figures[0].has_tokenizer_of(outcome.figures[1])


def test_every_model_answers_prompts_of_every_kind(outcome: EvaluationOutcome) -> None:
    assert [(a.role, a.prompt_id) for a in outcome.answers] == [
        (role, prompt) for role in ("release before", "merged", "edited") for prompt in ("p", "r")
    ]
    assert all(0 < answer.tokens <= 5 for answer in outcome.answers)


def test_answers_are_greedy(job: EvaluationJob, outcome: EvaluationOutcome) -> None:
    """The likeliest token each time, by plain transformers without generate."""
    path = job.subjects[-1].path
    model, tokenizer = LlamaForCausalLM.from_pretrained(path), AutoTokenizer.from_pretrained(path)
    answer = outcome.answers[-2]
    template = get_template(TEMPLATE)
    template.append_message(template.roles[0], answer.prompt)
    template.append_message(template.roles[1], None)
    ids = tokenizer(template.get_prompt())["input_ids"]
    prompt_length = len(ids)
    for _ in range(answer.tokens):
        ids.append(int(model(torch.tensor([ids])).logits[0, -1].argmax()))
    text = tokenizer.decode(ids[prompt_length:], skip_special_tokens=True)
    assert answer.text == text.strip()


def test_nothing_of_a_model_stays_that_no_later_one_is_held_against(
    job: EvaluationJob, outcome: EvaluationOutcome
) -> None:
    assert outcome.figures
    assert list(job.scratch.glob("*.expected")) == []


def test_the_last_model_leaves_nothing_and_the_others_their_states(
    job: EvaluationJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[tuple[str, int]] = []
    create = StoredPredictions.create

    def create_and_note(self: StoredPredictions) -> StoredPredictions:
        made.append((self.path.stem, self.width))
        return create(self)

    monkeypatch.setattr(StoredPredictions, "create", create_and_note)
    assert run(job, tmp_path)[0] == 0
    assert made == [("release before", 32), ("merged", 32)]  # hidden, not the 320 of the vocabulary


def examples_of(job: EvaluationJob) -> list[Example]:
    encoder = Encoder(AutoTokenizer.from_pretrained(job.subjects[0].path), TEMPLATE, 2048)
    return [encoder.encode(record) for record in load_conversations(job.settings.conversations)]


def test_logits_are_computed_for_learned_positions_only_and_a_few_at_a_time(
    job: EvaluationJob,
) -> None:
    model: Any = LlamaForCausalLM.from_pretrained(job.subjects[0].path, dtype=torch.float32)
    examples = examples_of(job)[:1]
    reader, computed = PredictionReader(model, examples), list[int]()
    model.lm_head.register_forward_hook(lambda _m, _i, output: computed.append(len(output)))
    found = score(reader, examples, {})
    assert sum(computed) == found.tokens == sum(label >= 0 for label in examples[0].labels)
    assert max(computed) <= ROWS


class Capped(LlamaForCausalLM):
    """Its logits are more than the product of states and output layer, as Gemma's are."""

    def forward(self, input_ids: Any = None, use_cache: bool = False) -> Any:  # type: ignore[override]
        found = super().forward(input_ids=input_ids, use_cache=use_cache)
        found.logits = 2 * torch.tanh(found.logits / 2)
        return found


def test_a_model_whose_logits_are_not_its_heads_alone_is_measured_by_its_own(
    job: EvaluationJob, tmp_path: Path
) -> None:
    model: Any = Capped.from_pretrained(job.subjects[0].path, dtype=torch.float32)
    examples = examples_of(job)
    reader = PredictionReader(model, examples)
    kept = reader.predictions_in(tmp_path / "capped", 10_000).create()
    found = score(reader, examples, {}, kept)
    nll = 0.0
    for example in examples:
        logits = model(torch.tensor([example.input_ids])).logits[0, :-1]
        labels = torch.tensor(example.labels[1:])
        nll += functional.cross_entropy(logits, labels, ignore_index=-100, reduction="sum").item()
    assert (reader.head, kept.width) == (None, 320)
    assert found.nll_nats == pytest.approx(nll, rel=1e-5)
    again = score(reader, examples, {"merged": kept}).distances["merged"]
    assert (again.kl_nats, again.top1_agreements) == (pytest.approx(0.0, abs=1e-6), found.tokens)


def test_a_conversation_of_which_no_answer_fits_is_left_out(
    job: EvaluationJob, tmp_path: Path
) -> None:
    both, short = tmp_path / "both.json", tmp_path / "short.json"
    fits = conversation("short", "Halo", "Ya.")
    short.write_text(json.dumps([fits]))
    both.write_text(json.dumps([conversation("long", "Halo " * 200, "Ya."), fits]))
    found = []
    for place in (both, short):
        changes = {
            "conversations": place,
            "max_length_tokens": 400,
            "max_prompts": 0,
            "max_dropped_share": 0.5,
        }
        settings = job.settings.model_copy(update=changes)
        code, text = run(job.model_copy(update={"settings": settings}), tmp_path)
        assert code == 0, text
        figures = EvaluationOutcome.model_validate_json(text).figures[0]
        found.append((figures.conversations, figures.tokens, figures.nll_nats))
    assert found[0] == found[1]


def test_long_work_says_which_conversation_prompt_and_token_it_is_at(
    job: EvaluationJob,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for module in (measuring, chain_figures):
        monkeypatch.setattr(module, "Throttled", lambda say: Throttled(say, interval_s=0.0))
    assert run(job, tmp_path)[0] == 0
    lines = capsys.readouterr().out
    assert "merged: conversation 2 of 2\n" in lines
    assert "merged: prompt 2 of 2, 1 tokens\n" in lines


def test_lines_that_come_fast_are_dropped() -> None:
    said: list[str] = []
    times = iter([0.0, 3.0, 5.0, 9.0, 10.0])
    seldom = Throttled(said.append, interval_s=5.0, clock=lambda: next(times))
    for line in ("at 3 s", "at 5 s", "at 9 s", "at 10 s"):
        seldom(line)
    assert said == ["at 5 s", "at 10 s"]


def test_other_vocabularies_are_not_compared(job: EvaluationJob, tmp_path: Path) -> None:
    other = tiny_llama(tmp_path / "m", vocab=400, dtype="float32")
    models = subjects_of([("merged", job.subjects[1].path), ("edited", other)])
    code, text = run(job.model_copy(update={"subjects": models}), tmp_path)
    assert code == 0
    assert EvaluationOutcome.model_validate_json(text).comparisons == ()


def test_broken_model_has_figures_that_are_no_numbers(job: EvaluationJob, tmp_path: Path) -> None:
    path = tiny_llama(tmp_path / "m", dtype="float32")
    model = LlamaForCausalLM.from_pretrained(path)
    with torch.no_grad():
        model.lm_head.weight.fill_(torch.nan)
    model.save_pretrained(path)
    models = subjects_of([("merged", job.subjects[1].path), ("edited", path)])
    no_answers = job.settings.model_copy(update={"max_prompts": 0})
    code, text = run(job.model_copy(update={"subjects": models, "settings": no_answers}), tmp_path)
    assert code == 0
    outcome = EvaluationOutcome.model_validate_json(text)
    assert math.isnan(outcome.figures[-1].perplexity)
    assert math.isnan(outcome.comparisons[0].kl_divergence_nats)


def test_model_too_large_for_memory_is_measured_layer_by_layer(
    job: EvaluationJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tiny_llama(tmp_path / "m", dtype="float32", layers=6)
    only = job.model_copy(update={"subjects": subjects_of([("merged", path)])})
    whole = EvaluationOutcome.model_validate_json(run(only, tmp_path)[1])
    placed = []
    monkeypatch.setattr(
        loading, "read_hardware", lambda _: SimpleNamespace(memory_available_bytes=250_000)
    )
    load = measuring.load_model

    def load_and_see(*args: Any) -> Any:
        model = load(*args)
        placed.append(set(model.hf_device_map.values()))
        return model

    monkeypatch.setattr(measuring, "load_model", load_and_see)
    layered = EvaluationOutcome.model_validate_json(run(only, tmp_path)[1])
    assert placed == [{"cpu", "disk"}]
    assert layered.figures[0].nll_nats == pytest.approx(whole.figures[0].nll_nats, rel=1e-6)
    assert layered.answers[0].text == whole.answers[0].text


def test_each_model_has_a_peak_of_its_own(job: EvaluationJob, tmp_path: Path) -> None:
    """A large model in front does not count for the small one behind it."""
    large = tiny_llama(tmp_path / "large", dtype="float32", hidden=1024, layers=4)
    models = subjects_of([("base", large), ("merged", job.subjects[1].path)])
    no_answers = job.settings.model_copy(update={"max_prompts": 0})
    _, text = run(job.model_copy(update={"subjects": models, "settings": no_answers}), tmp_path)
    first, second = (
        f.peak_memory_bytes for f in EvaluationOutcome.model_validate_json(text).figures
    )
    weights = sum(file.stat().st_size for file in large.glob("*.safetensors"))
    assert first - second > 0.9 * weights


@pytest.mark.parametrize(
    "error",
    [MemoryError(), RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: 9")],
)
def test_memory_that_runs_out_is_told_as_such(
    job: EvaluationJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(measuring, "load_model", fail)
    code, text = run(job, tmp_path)
    told = json.loads(text)["error"]
    assert (code, told["error"]) == (1, "EvaluationFailed")
    assert "The host ran out of memory" in told["what"]
    assert "max_length_tokens" in told["next_step"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
def test_what_the_system_refuses_while_measuring_is_told_as_such(
    job: EvaluationJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number), "/scratch/logits")

    monkeypatch.setattr(measuring, "load_model", fail)
    code, text = run(job, tmp_path)
    told = json.loads(text)["error"]
    kind = "DiskFull" if number == errno.ENOSPC else "SystemRefused"
    assert (code, told["error"], told["where"]) == (1, kind, "/scratch/logits")


def test_length_in_which_no_answer_fits_is_an_error(job: EvaluationJob, tmp_path: Path) -> None:
    short = job.settings.model_copy(update={"max_length_tokens": 16})
    code, text = run(job.model_copy(update={"settings": short}), tmp_path)
    assert code == 1
    assert "Raise evaluate.max_length_tokens" in json.loads(text)["error"]["next_step"]


def test_held_out_records_that_no_training_takes_are_set_aside_and_counted(
    job: EvaluationJob, tmp_path: Path
) -> None:
    good = [
        conversation(
            str(number), f"Berapa harga barang {number}?", f"Harganya {number * 7} rupiah."
        )
        for number in range(99)
    ]
    clean, dirty = tmp_path / "clean.json", tmp_path / "dirty.json"
    clean.write_text(json.dumps(good))
    marked = conversation("tanda", "Halo </s>", "Ya.")
    dirty.write_text(json.dumps([*good[:40], marked, *good[40:]]))
    found = []
    for place in (clean, dirty):
        settings = job.settings.model_copy(update={"conversations": place, "max_prompts": 0})
        one = subjects_of([("merged", job.subjects[0].path)])
        code, text = run(job.model_copy(update={"settings": settings, "subjects": one}), tmp_path)
        assert code == 0, text
        found.append(EvaluationOutcome.model_validate_json(text))
    assert found[0].figures[0].nll_nats == found[1].figures[0].nll_nats
    held_out = found[1].held_out
    assert held_out is not None
    assert (held_out.records, held_out.measured) == (100, 99)
    assert held_out.set_aside == {"mark of the template in a text": 1}
    assert "record 41 (tanda)" in held_out.first_set_aside[0]


def test_a_record_that_one_of_the_models_cannot_take_is_set_aside_for_all(
    job: EvaluationJob, tmp_path: Path
) -> None:
    other = tiny_llama(tmp_path / "other", dtype="float32")
    tokenizer = AutoTokenizer.from_pretrained(other)
    tokenizer.add_special_tokens({"additional_special_tokens": ["modal"]})
    tokenizer.save_pretrained(other)
    models = subjects_of([("merged", job.subjects[0].path), ("edited", other)])
    settings = job.settings.model_copy(update={"max_dropped_share": 0.5, "max_prompts": 0})
    code, text = run(job.model_copy(update={"subjects": models, "settings": settings}), tmp_path)
    assert code == 0, text
    outcome = EvaluationOutcome.model_validate_json(text)
    assert [figures.conversations for figures in outcome.figures] == [1, 1]
    assert outcome.held_out is not None and outcome.held_out.records == 2


def test_more_set_aside_than_the_recipe_allows_is_an_error_with_a_remedy(
    job: EvaluationJob, tmp_path: Path
) -> None:
    place = tmp_path / "held_out.json"
    place.write_text(
        json.dumps([conversation("a", "Halo", "Ya."), conversation("b", "</s>", "Ya")])
    )
    settings = job.settings.model_copy(update={"conversations": place})
    code, text = run(job.model_copy(update={"settings": settings}), tmp_path)
    assert code == 1
    assert "evaluate.max_dropped_share: 0.5" in json.loads(text)["error"]["next_step"]


def test_a_prompt_that_holds_a_special_token_is_refused(job: EvaluationJob, tmp_path: Path) -> None:
    (tmp_path / "prompts.json").write_text(json.dumps([{"id": "p", "prompt": "Apa </s> itu?"}]))
    wrong = job.settings.model_copy(update={"prompts": tmp_path / "prompts.json"})
    code, text = run(job.model_copy(update={"settings": wrong}), tmp_path)
    assert code == 1
    assert json.loads(text)["error"]["found"] == "</s>"


@pytest.mark.parametrize("lines", [False, True])
def test_prompts_may_have_a_byte_order_mark_and_stand_in_lines(tmp_path: Path, lines: bool) -> None:
    prompts = [{"id": 1, "prompt": "Apa itu NIB?"}, {"id": "b", "kind": "chat", "prompt": "Laba?"}]
    path = tmp_path / "prompts.json"
    text = "\n".join(map(json.dumps, prompts)) if lines else json.dumps(prompts, indent=1)
    path.write_text(text, encoding="utf-8-sig")
    assert [(p.id, p.kind, p.text) for p in read_prompts(path)] == [
        ("1", "", "Apa itu NIB?"),
        ("b", "chat", "Laba?"),
    ]


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ('[{"id": "a", "prompt": "x"}, {"id": "b", "prompt": null}]', "prompt 2"),
        ('[{"id": "a", "prompt": "x", "prompt": "y"}]', "stands in one object twice"),
        ('[{"id": "a", "prompt": "\\ud83d"}]', "not UTF-8"),
        ('{"data": [\n{"id": "a", "prompt": "x"}\n]\n}', "in its field `data`"),
        ("", "an empty file: it holds no prompt"),
    ],
)
def test_prompts_that_are_wrong_are_named(tmp_path: Path, content: str, found: str) -> None:
    (tmp_path / "prompts.json").write_text(content)
    with pytest.raises(DataError, match="prompts cannot be read") as caught:
        read_prompts(tmp_path / "prompts.json")
    assert found in str(caught.value)


@pytest.mark.parametrize("content", ["{", '[{"id": "p"}]', '"text"'])
def test_prompts_that_are_none_are_refused(
    job: EvaluationJob, tmp_path: Path, content: str
) -> None:
    (tmp_path / "prompts.json").write_text(content)
    wrong = job.settings.model_copy(update={"prompts": tmp_path / "prompts.json"})
    code, text = run(job.model_copy(update={"settings": wrong}), tmp_path)
    assert code == 1
    assert json.loads(text)["error"]["what"] == "The prompts cannot be read."
