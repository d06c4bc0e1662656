"""Continuous batching: its memory, its faults, and the end of its thread."""

import asyncio
import gc
import time
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, ContinuousBatchingConfig, GenerationConfig
from transformers.generation.continuous_batching import ContinuousBatchingManager

from tasks.core.serving.engines.batching import BatchingGenerator
from tasks.core.serving.engines.cache_room import PAGE_TOKENS, CacheRoom, cache_room
from tasks.core.serving.engines.places import EnginePlaces
from tasks.core.serving.engines.request import Completion
from tests.models import tiny_llama, tiny_tokenizer

WHOLE_CONTEXT = 512 // PAGE_TOKENS


@pytest.fixture(scope="module", autouse=True)
def little_to_collect() -> None:
    """A manager has all garbage collected, twice: 2 s each, after the tests of a whole run."""
    gc.freeze()


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_llama(
        tmp_path_factory.mktemp("model"), layers=2, dtype="float32", max_positions=512
    )


@pytest.fixture
def model(path: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(path, attn_implementation="sdpa").eval()


@pytest.fixture
def generator(model: Any) -> Iterator[BatchingGenerator]:
    room = CacheRoom(blocks=WHOLE_CONTEXT, batch_tokens=64)
    found = BatchingGenerator(model, tiny_tokenizer(), room, requests=8)
    yield found
    if found.failure() is None:
        found.close()


def wanted(length: int, max_tokens: int, **fields: object) -> Completion:
    prompt = tuple(3 + number % 250 for number in range(length))
    fields = {"model": "m", "prompt": prompt, "max_tokens": max_tokens, "temperature": 0, **fields}
    return Completion.model_validate(fields)


async def tokens_of(
    generator: BatchingGenerator, places: EnginePlaces, one: Completion
) -> list[int]:
    async with (
        places.place(generator.cost(one)),
        aclosing(generator.generate(one)) as tokens,
    ):
        found: list[int] = []
        async for token in tokens:
            found.append(token.id)
            if len(found) == one.max_tokens or token.id in generator.end_tokens:
                break
        return found


def test_more_requests_than_the_cache_holds_are_all_answered_as_alone(generator):
    """Each may come to need a quarter to a half of the cache; ten come at once."""

    async def story() -> None:
        places = EnginePlaces(generator.room, waiting=16)
        asked = [wanted(60 + 13 * number, 20) for number in range(10)]
        alone = [await tokens_of(generator, places, each) for each in asked]
        together = await asyncio.gather(*(tokens_of(generator, places, each) for each in asked))
        assert list(together) == alone
        assert generator._manager.batch_processor is not None

    asyncio.run(story())


def test_a_request_that_fills_the_context_fits_into_the_smallest_cache(generator):
    async def story() -> None:
        places = EnginePlaces(generator.room, waiting=1)
        assert len(await tokens_of(generator, places, wanted(500, 12))) == 12

    asyncio.run(story())


def test_a_model_that_fails_ends_every_stream_and_shows_it(model, generator):
    def broken(*args: object, **kwargs: object) -> None:
        raise RuntimeError("CUDA error: an illegal memory access")

    async def story() -> None:
        places = EnginePlaces(generator.room, waiting=8)
        running = [
            asyncio.create_task(tokens_of(generator, places, wanted(20, 100))) for _ in range(3)
        ]
        await asyncio.sleep(0.05)
        model.forward = broken
        for each in await asyncio.gather(*running, return_exceptions=True):
            assert isinstance(each, RuntimeError)
            assert "illegal memory" in str(each)
        with pytest.raises(RuntimeError, match="illegal memory"):
            await tokens_of(generator, places, wanted(20, 1))
        assert places.taken == 0

    asyncio.run(story())
    assert "illegal memory" in (generator.failure() or "")


def test_scores_that_are_no_numbers_are_an_error_and_do_not_stay(model, generator):
    """They reach whoever is in the same step: in its attention a masked value counts 0 times NaN.

    With shared prefixes they would stay in the cache for all who begin with the same words.
    """

    async def story() -> None:
        places = EnginePlaces(generator.room, waiting=8)
        with torch.no_grad():
            model.get_input_embeddings().weight[5] = float("nan")
        good = wanted(3, 30).model_copy(update={"prompt": tuple(range(100, 170))})
        bad = wanted(3, 30).model_copy(update={"prompt": (7, 5, 9)})
        ids = torch.tensor([good.prompt])
        expected = model.generate(ids, do_sample=False, max_new_tokens=30)[0, 70:].tolist()
        beside = await asyncio.gather(
            *(tokens_of(generator, places, each) for each in (bad, good, bad)),
            return_exceptions=True,
        )
        assert isinstance(beside[0], FloatingPointError)
        assert isinstance(beside[1], FloatingPointError) or beside[1] == expected
        assert await tokens_of(generator, places, good) == expected

    asyncio.run(story())
    assert generator.failure() is None


def test_whoever_leaves_gives_its_cache_to_the_next(generator):
    async def story() -> None:
        places = EnginePlaces(generator.room, waiting=8)
        for _ in range(5):
            task = asyncio.create_task(tokens_of(generator, places, wanted(20, 490)))
            await asyncio.sleep(0.1)
            task.cancel()
        assert len(await tokens_of(generator, places, wanted(20, 3))) == 3

    asyncio.run(story())


def test_continuous_batching_still_lets_nobody_in_after_a_full_cache_and_cancels(model):
    """Why a request is held back until its cache is free, for all that it may come to need."""
    manager = ContinuousBatchingManager(
        model,
        GenerationConfig(do_sample=False, eos_token_id=-1),
        ContinuousBatchingConfig(
            page_size=16, num_blocks=8, max_batch_tokens=64, allow_block_sharing=False
        ),
    )
    manager.start()
    try:
        for number in range(3):
            prompt = [3 + number, *range(10, 40)]
            manager.add_request(prompt, request_id=f"{number}", max_new_tokens=80)
        scheduler = None
        deadline = time.monotonic() + 60
        while scheduler is None or not scheduler.block_new_requests:
            assert time.monotonic() < deadline
            processor = manager.batch_processor
            scheduler = None if processor is None else processor.scheduler
        for number in range(3):
            manager.cancel_request(f"{number}")
        manager.add_request([5, 6, 7], request_id="next", max_new_tokens=1)
        time.sleep(1)
        assert scheduler.block_new_requests
        assert "next" in scheduler.waiting_requests
    finally:
        manager.stop(hard_stop=True, timeout=5)


def test_the_cache_is_never_below_one_context_nor_above_what_is_usual(model, monkeypatch):
    import psutil

    def room(free_bytes: float) -> int:
        memory = psutil.virtual_memory()._replace(available=free_bytes)
        monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)
        return cache_room(model, context_tokens=512, requests=4).blocks

    assert room(0) == WHOLE_CONTEXT
    assert room(1e12) == 5 * WHOLE_CONTEXT
    between = room(4 * 20 * PAGE_TOKENS * 4 * (2 * 2 * 2 * 8 + 512))
    assert between == 20
