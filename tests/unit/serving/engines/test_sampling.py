"""Each field of a request has its effect, and two requests never share one."""

from collections import Counter

import torch

from tasks.core.serving.engines.request import Completion
from tasks.core.serving.engines.sampling import Sampler

SCORES = torch.tensor([3.0, 2.0, 1.0, 0.0, -1.0])


def sampler(**fields: object) -> Sampler:
    wanted = {"model": "m", "prompt": (4,), "seed": 0, **fields}
    return Sampler(Completion.model_validate(wanted), torch.device("cpu"))


def drawn(count: int = 400, **fields: object) -> Counter[int]:
    one = sampler(**fields)
    return Counter(one.choose(SCORES) for _ in range(count))


def test_without_a_temperature_the_highest_score_is_taken():
    assert set(drawn(temperature=0)) == set(drawn(temperature=2, top_p=0)) == {0}


def test_tokens_come_as_often_as_the_model_thinks():
    shares = drawn(4000)
    for token, expected in enumerate(SCORES.softmax(-1).tolist()):
        assert abs(shares[token] / 4000 - expected) < 0.03


def test_a_higher_temperature_makes_unlikely_tokens_likelier():
    assert drawn(temperature=5)[4] > drawn(temperature=1)[4] > drawn(temperature=0.3)[4]


def test_top_k_top_p_and_min_p_leave_the_likeliest():
    assert set(drawn(top_k=2)) == {0, 1}
    assert set(drawn(top_p=0.7)) == {0, 1}
    assert set(drawn(min_p=0.3)) == {0, 1}
    assert set(drawn(top_k=0)) == set(drawn(top_k=-1)) == {0, 1, 2, 3, 4}


def test_a_bias_forbids_and_forces():
    assert set(drawn(temperature=0, logit_bias={"0": -100.0})) == {1}
    assert set(drawn(logit_bias={"4": 100.0})) == {4}


def test_presence_counts_once_and_frequency_every_time():
    presence, frequency = (
        sampler(temperature=0, presence_penalty=1.5),
        sampler(temperature=0, frequency_penalty=0.6),
    )
    assert [presence.choose(SCORES) for _ in range(4)] == [0, 1, 0, 0]
    assert [frequency.choose(SCORES) for _ in range(5)] == [0, 0, 1, 0, 1]


def test_a_repetition_penalty_counts_the_prompt():
    # 3 / 1.6 is below 2, and so is what the prompt holds.
    repeated = sampler(temperature=0, prompt=(0,), repetition_penalty=1.6)
    assert repeated.choose(SCORES) == 1


def test_one_seed_gives_one_answer_whatever_happens_beside_it():
    def ten(disturb: bool) -> list[int]:
        one = sampler(seed=3)
        return [one.choose(SCORES) for _ in range(10) if not disturb or torch.rand(1) >= 0]

    assert ten(disturb=False) == ten(disturb=True)


def test_the_scores_stay_the_models():
    before = SCORES.clone()
    for _ in range(2):
        sampler(repetition_penalty=2.0, logit_bias={"1": 5.0}, presence_penalty=1.0).choose(SCORES)
    assert torch.equal(SCORES, before)


def test_only_a_request_without_changes_takes_the_score_as_it_is():
    assert sampler(temperature=0).plain
    assert not sampler(temperature=0, presence_penalty=0.1).plain
    assert not sampler(temperature=1).plain
