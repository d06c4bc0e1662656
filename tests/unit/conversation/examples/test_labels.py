import copy
import pickle
from types import SimpleNamespace
from typing import Any

import pytest
from fastchat.train.train import preprocess
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, processors
from transformers import LlamaTokenizer, PreTrainedTokenizerFast

from tasks.core.conversation.examples.labels import (
    IGNORED,
    Encoder,
    Example,
    _tokens_of,
    last_answer,
)
from tasks.core.conversation.records import Conversation, Turn
from tasks.core.conversation.template.render import AnswerSpan, MarkInText, render_conversation
from tasks.core.errors import DataError, RecipeError
from tests.models import WORDS, tiny_tokenizer
from tests.unit.conversation.tokenizers import llama_tokenizer

LLAMA = llama_tokenizer()
BYTES = tiny_tokenizer()

texts = st.text(st.characters(codec="utf-8"), min_size=1).filter(
    lambda t: t.strip() and not any(mark in t for mark in ("<s>", "</s>", "<unk>"))
)
sentences = st.lists(st.sampled_from([*WORDS, "ya,", "50%?", "#1"]), min_size=1).map(" ".join)


def conversations(words: st.SearchStrategy[str]) -> st.SearchStrategy[Conversation]:
    pairs = st.lists(st.tuples(words, words), min_size=1, max_size=4)
    return pairs.map(
        lambda said: Conversation(
            "x", tuple(t for a, b in said for t in (Turn("human", a), Turn("gpt", b)))
        )
    )


def talk(*words: str) -> Conversation:
    return Conversation(
        "x", tuple(Turn("gpt" if i % 2 else "human", word) for i, word in enumerate(words))
    )


def fastchat_mask(
    conversation: Conversation, tokenizer: PreTrainedTokenizerFast, length: int
) -> tuple[list[int], list[int]]:
    """Return FastChat's own input ids and labels, without its padding."""
    tokenizer = copy.deepcopy(tokenizer)
    tokenizer.model_max_length, tokenizer.padding_side = length, "right"  # as its train() does
    source = [{"from": turn.speaker, "value": turn.text} for turn in conversation.turns]
    result = preprocess([source], tokenizer)
    real = int(result["attention_mask"][0].sum())
    return result["input_ids"][0][:real].tolist(), result["labels"][0][:real].tolist()


# --- failures --------------------------------------------------------------------------------


def test_a_tokenizer_without_offsets_is_refused() -> None:
    with pytest.raises(RecipeError, match="fast tokenizer"):
        Encoder(SimpleNamespace(is_fast=False), "vicuna_v1.1", 64)  # type: ignore[arg-type]


def test_a_template_whose_end_mark_never_ends_generation_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"stops at[\s\S]*vicuna_v1\.1"):
        Encoder(BYTES, "oasst_pythia", 64)


def test_an_end_token_that_the_tokenizer_adds_by_itself_is_not_the_templates_mark() -> None:
    tokenizer = llama_tokenizer()
    tokenizer._tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>",
        special_tokens=[("<s>", tokenizer.bos_token_id), ("</s>", tokenizer.eos_token_id)],
    )
    with pytest.raises(RecipeError, match="stops at"):
        Encoder(tokenizer, "oasst_pythia", 64)


def test_a_mark_that_fastchat_stops_at_as_a_text_need_be_no_token() -> None:
    example = Encoder(LLAMA, "zero_shot", 4096).encode(talk("a", "b"))
    assert LLAMA.decode([i for i in example.labels if i != IGNORED]).endswith("###")


def test_a_tokenizer_that_changes_a_text_by_code_of_its_own_is_refused() -> None:
    class Lowers(LlamaTokenizer):
        def __call__(self, text: str, **options: Any) -> Any:
            return super().__call__(text.lower(), **options)

    tokenizer = llama_tokenizer()
    tokenizer.__class__ = Lowers
    with pytest.raises(RecipeError, match=r"code of its own[\s\S]*Lowers"):
        Encoder(tokenizer, "vicuna_v1.1", 64)


def test_words_that_are_a_special_token_are_refused() -> None:
    with pytest.raises(DataError, match=r"x, turn 3[\s\S]*<s>"):
        Encoder(LLAMA, "vicuna_v1.1", 512).encode(talk("a", "b", "what is <s>?", "c"))


def test_a_system_message_with_a_mark_is_refused() -> None:
    for mark in ("</s>", "<s>"):
        marked = Conversation("x", talk("a", "b").turns, f"Jawab {mark} singkat.")
        with pytest.raises(DataError, match=r"x, turn 1 \(system\)"):
            Encoder(LLAMA, "vicuna_v1.1", 512).encode(marked)


def test_a_special_token_without_a_role_is_refused_in_words() -> None:
    tokenizer = llama_tokenizer()
    tokenizer.add_tokens([AddedToken("<|eot_id|>", special=True)])
    assert "<|eot_id|>" not in tokenizer.all_special_tokens
    with pytest.raises(DataError, match="eot_id"):
        Encoder(tokenizer, "vicuna_v1.1", 512).encode(talk("a <|eot_id|> b", "c"))


# --- FastChat's mask -------------------------------------------------------------------------


@given(conversations(sentences))
def test_labels_are_fastchats_for_a_llama_tokenizer(conversation: Conversation) -> None:
    example = Encoder(LLAMA, "vicuna_v1.1", 4096).encode(conversation)
    assert (example.input_ids, example.labels) == fastchat_mask(conversation, LLAMA, 4096)


def test_labels_are_right_where_fastchat_ignores_the_whole_conversation() -> None:
    # The words hold FastChat's own separator, so that its count of tokens is off.
    conversation = talk("Apa arti ' ASSISTANT: '?", "peran")
    _, theirs = fastchat_mask(conversation, LLAMA, 512)
    ours = Encoder(LLAMA, "vicuna_v1.1", 512).encode(conversation)
    assert set(theirs) == {IGNORED}
    assert LLAMA.decode([label for label in ours.labels if label != IGNORED]) == "peran</s>"


def test_labels_are_right_where_fastchat_counts_for_another_tokenizer() -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.pad_token, tokenizer.legacy = tokenizer.unk_token, True
    conversation = talk("halo", "ya", "modal", "laba")
    _, theirs = fastchat_mask(conversation, tokenizer, 512)
    ours = Encoder(tokenizer, "vicuna_v1.1", 512).encode(conversation)
    assert set(theirs) == {IGNORED}
    assert tokenizer.decode([i for i in ours.labels if i != IGNORED]) == " ya</s> laba</s>"


def test_labels_are_right_where_fastchat_expects_the_old_spaces_of_llama() -> None:
    tokenizer = llama_tokenizer(legacy=False)
    conversation = talk("halo", "ya", "modal", "laba")
    _, theirs = fastchat_mask(conversation, tokenizer, 512)
    ours = Encoder(tokenizer, "vicuna_v1.1", 512).encode(conversation)
    assert set(theirs) == {IGNORED}
    assert tokenizer.decode([i for i in ours.labels if i != IGNORED]) == "ya</s> laba</s>"


def test_half_an_answer_is_not_learned_where_fastchat_learns_it() -> None:
    conversation = talk("halo", " ".join(WORDS * 3))
    _, theirs = fastchat_mask(conversation, LLAMA, 60)
    learned = [label for label in theirs if label != IGNORED]
    assert learned and LLAMA.eos_token_id not in learned
    assert Encoder(LLAMA, "vicuna_v1.1", 60).encode(conversation).learned_tokens == 0


# --- properties ------------------------------------------------------------------------------


@pytest.mark.parametrize("tokenizer", [LLAMA, BYTES, llama_tokenizer(legacy=False)])
@given(conversation=conversations(texts))
def test_only_and_all_of_the_assistants_words_are_learned(
    tokenizer: PreTrainedTokenizerFast, conversation: Conversation
) -> None:
    example = Encoder(tokenizer, "vicuna_v1.1", 100_000).encode(conversation)
    rendered = render_conversation(conversation, "vicuna_v1.1")
    offsets = tokenizer(rendered.text, return_offsets_mapping=True)["offset_mapping"]
    learned = {
        place
        for label, (start, end) in zip(example.labels, offsets, strict=False)
        if label != IGNORED
        for place in range(start, end)
    }
    expected = {place for span in rendered.spans for place in range(span.start, span.end)}
    assert learned == expected
    assert example.dropped_answers == 0


@given(conversations(sentences), st.integers(16, 400))
def test_truncation_never_leaves_half_an_answer(conversation: Conversation, length: int) -> None:
    example = Encoder(LLAMA, "vicuna_v1.1", length).encode(conversation)
    kept = len(conversation.turns) // 2 - example.dropped_answers
    assert len(example.input_ids) <= length
    assert example.labels.count(LLAMA.eos_token_id) == kept
    whole = Encoder(LLAMA, "vicuna_v1.1", 4096).encode(
        Conversation("x", conversation.turns[: 2 * kept])
    )
    assert (example.input_ids, example.labels) == (whole.input_ids, whole.labels)


def test_an_answer_that_just_fits_is_kept() -> None:
    conversation = talk("halo", "apa kabar")
    whole = Encoder(LLAMA, "vicuna_v1.1", 4096).encode(conversation)
    tight = len(whole.input_ids)
    assert Encoder(LLAMA, "vicuna_v1.1", tight).encode(conversation) == whole
    assert Encoder(LLAMA, "vicuna_v1.1", tight - 1).encode(conversation).labels == []


def test_the_begin_token_in_a_separator_is_not_learned() -> None:
    example = Encoder(LLAMA, "llama-2", 512).encode(talk("a", "b", "c", "d"))
    assert example.input_ids.count(LLAMA.bos_token_id) > 1
    assert LLAMA.bos_token_id not in example.labels
    assert example.labels.count(LLAMA.eos_token_id) == 2


@pytest.mark.parametrize("tokenizer", [LLAMA, BYTES])
@given(conversation=conversations(texts), length=st.integers(16, 400))
def test_what_is_shown_is_the_whole_text_with_the_states_of_its_labels(
    tokenizer: PreTrainedTokenizerFast, conversation: Conversation, length: int
) -> None:
    encoder = Encoder(tokenizer, "vicuna_v1.1", length)
    shown = encoder.explain(conversation)
    example = encoder.encode(conversation)
    assert (
        "".join(token.text for token in shown)
        == render_conversation(conversation, "vicuna_v1.1").text
    )
    assert sum(token.state == "learned" for token in shown) == example.learned_tokens
    assert sum(token.state == "truncated" for token in shown) == example.dropped_tokens
    assert len(shown) == len(example.input_ids) + example.dropped_tokens


# --- many at once ----------------------------------------------------------------------------


@given(st.lists(conversations(texts | sentences), min_size=1, max_size=4), st.integers(20, 400))
def test_many_at_once_get_what_each_token_of_transformers_own_call_deserves(
    some: list[Conversation], length: int
) -> None:
    """The reference looks at every token alone, and knows nothing of order or batches."""
    for tokenizer in (LLAMA, BYTES):
        encoder = Encoder(tokenizer, "vicuna_v1.1", length)
        for conversation, example in zip(some, encoder.encode_all(some), strict=True):
            rendered = render_conversation(conversation, "vicuna_v1.1")
            encoded = tokenizer(rendered.text, return_offsets_mapping=True)
            ids, offsets = encoded["input_ids"], encoded["offset_mapping"]
            inside = [
                [s for s, span in enumerate(rendered.spans) if end > span.start and at < span.end]
                for at, end in offsets
            ]
            stops = [
                max(i for i, held in enumerate(inside) if s in held) + 1
                for s in range(len(rendered.spans))
            ]
            kept = sum(stop <= length for stop in stops)
            stop = stops[kept - 1] if kept else 0
            learned = [
                token if held and held[0] < kept and token != tokenizer.bos_token_id else IGNORED
                for token, held in zip(ids, inside, strict=True)
            ]
            assert isinstance(example, Example)
            assert (example.input_ids, example.labels) == (ids[:stop], learned[:stop])
            assert example.dropped_answers == len(stops) - kept


def test_one_that_is_refused_among_many_leaves_the_others_as_they_are() -> None:
    encoder = Encoder(LLAMA, "vicuna_v1.1", 512)
    good = talk("a", "b")
    first, refused, last = encoder.encode_all([good, talk("what is <s>?", "c"), good])
    assert first == last == encoder.encode(good)
    assert refused == MarkInText(
        good.id,
        "turn 1",
        marks="<s>",
        what="A turn holds the text of a special token.",
        next_step="Write it differently there.",
    )


def test_words_that_end_an_answer_are_refused_among_many_as_alone() -> None:
    conversation = talk("a ### b", "c")
    encoder = Encoder(BYTES, "one_shot", 512)
    (refused,) = encoder.encode_all([conversation])
    assert isinstance(refused, MarkInText)
    with pytest.raises(DataError, match="the mark that ends an answer"):
        encoder.encode(conversation)


# --- the last answer alone ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("labels", "last"),
    [
        ([IGNORED, 1, 2, IGNORED, IGNORED, 3, 4, 5], [IGNORED] * 5 + [3, 4, 5]),
        ([1, 2, IGNORED, 3, IGNORED, IGNORED], [IGNORED] * 3 + [3, IGNORED, IGNORED]),
        ([1, IGNORED], [1, IGNORED]),
        ([1, 2], [1, 2]),
        ([IGNORED, IGNORED], [IGNORED, IGNORED]),
        ([], []),
    ],
)
def test_of_several_answers_the_last_one_is_left(labels: list[int], last: list[int]) -> None:
    example = Example(list(range(len(labels))), labels)
    assert last_answer(example) == Example(example.input_ids, last)
    assert (example.dropped_answers, example.dropped_tokens) == (0, 0)


def test_an_answer_behind_the_last_token_has_none() -> None:
    assert list(_tokens_of(AnswerSpan(3, 5), [(0, 1), (1, 3)], 0)) == []


def test_an_encoder_in_another_process_makes_the_same_tokens() -> None:
    tokenizer = llama_tokenizer()
    encoder = Encoder(tokenizer, "vicuna_v1.1", 512)
    travelled = pickle.loads(pickle.dumps(encoder))  # noqa: S301 - our own
    conversation = talk("Berapa harga kue?", "Rp 12.500", "Mahal 🙂", "Tidak, Bu")
    assert travelled.encode(conversation) == encoder.encode(conversation)


def test_limits_that_somebody_sets_on_the_tokenizer_do_not_cut_examples() -> None:
    tokenizer = llama_tokenizer()
    encoder = Encoder(tokenizer, "vicuna_v1.1", 512)
    before = encoder.encode(talk("a", "b " * 50))
    tokenizer("a b c", truncation=True, max_length=2, padding="max_length")
    assert encoder.encode(talk("a", "b " * 50)) == before
    assert Encoder(tokenizer, "vicuna_v1.1", 512).encode(talk("a", "b " * 50)) == before
