"""What the engines answer, against transformers' own `generate`."""

from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.unit.serving.engines.clients import ask
from tests.unit.serving.engines.conftest import CONTEXT_TOKENS, Running

PROMPT = [1, *range(60, 90)]


@pytest.fixture(scope="module")
def reference(edited: Path) -> Any:
    model = AutoModelForCausalLM.from_pretrained(
        edited, dtype=torch.float32, trust_remote_code=True
    )
    return model.eval()


@pytest.fixture(scope="module")
def tokenizer(edited: Path) -> Any:
    return AutoTokenizer.from_pretrained(edited)


def generated(model: Any, prompt: list[int], max_tokens: int, **options: float) -> list[int]:
    """Return the tokens of transformers' greedy answer."""
    return list(_generated(model, tuple(prompt), max_tokens, **options))


@cache  # both engines are asked the same
def _generated(model: Any, prompt: tuple[int, ...], max_tokens: int, **options: float) -> list[int]:
    ids = model.generate(
        torch.tensor([prompt]),
        attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
        do_sample=False,
        max_new_tokens=max_tokens,
        **options,
    )
    return ids[0, len(prompt) :].tolist()


@cache
def logprob_of(model: Any, prompt: tuple[int, ...], token: int) -> float:
    """Return the log-probability of a token after a prompt."""
    with torch.inference_mode():
        return float(torch.log_softmax(model(torch.tensor([prompt])).logits[0, -1], -1)[token])


def text_of(tokenizer: Any, ids: list[int]) -> str:
    """Return the text as an engine sends it: without half a character at its end."""
    return tokenizer.decode(ids, skip_special_tokens=True).rstrip("\ufffd")


@pytest.mark.parametrize("start", [3, 40, 200])
def test_the_greedy_answer_is_that_of_generate_token_by_token(served, reference, tokenizer, start):
    prompt = [1, *range(start, start + 30)]
    expected = generated(reference, prompt, 40)
    answer = ask(served.url, prompt, max_tokens=40, logprobs=0)
    assert answer.logprobs("tokens") == [tokenizer.decode([each]) for each in expected]
    assert answer.text == text_of(tokenizer, expected)
    assert answer.usage == {
        "prompt_tokens": 31,
        "completion_tokens": len(expected),
        "total_tokens": 31 + len(expected),
    }


def test_no_token_of_a_prompt_that_fills_the_context_is_cut(served, reference, tokenizer):
    """FastChat#3399: with max_tokens to the end of the context its first token was dropped."""
    prompt = [3 + number % 250 for number in range(CONTEXT_TOKENS - 4)]
    answer = ask(served.url, prompt, max_tokens=4, logprobs=0)
    assert answer.usage["prompt_tokens"] == len(prompt)
    (first, *_), chosen = answer.logprobs("token_logprobs"), generated(reference, prompt, 4)
    assert answer.logprobs("tokens") == [tokenizer.decode([each]) for each in chosen]
    whole, cut = (logprob_of(reference, tuple(p), chosen[0]) for p in (prompt, prompt[1:]))
    assert abs(first - whole) < abs(cut - whole) / 10


def test_the_log_probabilities_are_the_models_own(served, reference):
    answer = ask(served.url, PROMPT, max_tokens=6, logprobs=3, temperature=0.7, top_p=0.5)
    with torch.inference_mode():
        scores = reference(torch.tensor([PROMPT])).logits[0, -1]
    highest = torch.log_softmax(scores, dim=-1).topk(3).values.tolist()
    assert sorted(answer.logprobs("top_logprobs")[0].values(), reverse=True)[:3] == pytest.approx(
        highest, abs=1e-4
    )
    # What is drawn may end before six tokens.
    assert len(answer.logprobs("token_logprobs")) == answer.usage["completion_tokens"]
    assert all(value < 0 for value in answer.logprobs("token_logprobs"))


def test_the_log_probabilities_of_a_prompt_are_those_of_the_model(served, reference):
    """What the edit's fingerprint is compared with, as vllm gives it."""
    answer = ask(served.url, PROMPT, max_tokens=1, prompt_logprobs=0)
    told = answer.chunks[0]["choices"][0]["prompt_logprobs"]
    with torch.inference_mode():
        scores = torch.log_softmax(reference(torch.tensor([PROMPT])).logits[0], dim=-1)
    assert told[0] is None
    for place, (token, each) in enumerate(zip(PROMPT[1:], told[1:], strict=True)):
        assert each[str(token)]["logprob"] == pytest.approx(float(scores[place, token]), abs=1e-4)


def test_a_stop_string_across_tokens_ends_the_answer_and_is_not_in_it(served, reference, tokenizer):
    whole = text_of(tokenizer, generated(reference, PROMPT, 40))
    stop = whole[5:8]
    answer = ask(served.url, PROMPT, max_tokens=40, stop=["never said", stop])
    assert answer.text == whole[: whole.index(stop)]
    assert answer.finish_reason == "stop"


def test_a_stop_token_ends_the_answer_and_is_not_in_it(served, reference, tokenizer):
    tokens = generated(reference, PROMPT, 20)
    stop = tokens[9]
    at = tokens.index(stop)
    answer = ask(served.url, PROMPT, max_tokens=20, stop_token_ids=[stop])
    assert answer.text == text_of(tokenizer, tokens[:at])
    assert (answer.finish_reason, answer.usage["completion_tokens"]) == ("stop", at + 1)


def test_an_answer_that_reaches_its_length_says_so(served):
    assert ask(served.url, PROMPT, max_tokens=3).finish_reason == "length"


def test_one_seed_gives_one_answer_and_another_seed_another(served):
    def sampled(seed: int) -> str:
        return ask(served.url, PROMPT, max_tokens=24, temperature=1.5, seed=seed).text

    assert sampled(7) == sampled(7)
    assert sampled(7) != sampled(8)


def test_top_k_1_is_greedy_at_any_temperature(served):
    greedy = ask(served.url, PROMPT, max_tokens=12).text
    assert ask(served.url, PROMPT, max_tokens=12, temperature=5, top_k=1).text == greedy


def test_a_repetition_penalty_is_that_of_generate(served, reference, tokenizer):
    plain = text_of(tokenizer, generated(reference, PROMPT, 60))
    penalized = text_of(tokenizer, generated(reference, PROMPT, 60, repetition_penalty=1.9))
    answer = ask(served.url, PROMPT, max_tokens=60, repetition_penalty=1.9)
    assert answer.text == penalized != plain


def test_eight_clients_with_settings_of_their_own_get_the_answers_that_one_would(served):
    wanted = [
        {"max_tokens": 10 + number, "temperature": number % 2 * 1.2, "seed": number}
        for number in range(8)
    ]
    prompts = [[1, *range(20 * number + 3, 20 * number + 23 - number)] for number in range(8)]
    alone = [ask(served.url, prompt, **each) for prompt, each in zip(prompts, wanted, strict=True)]
    with ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(ask, served.url, p, **w) for p, w in zip(prompts, wanted, strict=True)]
    together = [each.result() for each in asked]
    assert [each.text for each in together] == [each.text for each in alone]
    assert [each.usage for each in together] == [each.usage for each in alone]


def test_no_piece_of_a_streamed_answer_holds_half_a_character(served: Running):
    """The tiny model talks in bytes; whatever makes characters comes whole, or not at the end."""
    for seed in range(4):
        answer = ask(served.url, PROMPT, max_tokens=60, temperature=3, seed=seed)
        pieces = [choice["text"] for chunk in answer.chunks for choice in chunk["choices"]]
        assert not any(piece.endswith("\ufffd") for piece in pieces)
