"""Whether tokens and lengths stay within a model's limits, checked before anything is computed.

Two numbers of config.json limit the input of a model: the rows of its embedding and its context.
Plan, training, evaluation and serving apply the same rules. An error is whatever would end in
"index out of range" or exceeds what the model was trained for; a warning is what may be intended,
or cannot be known from config.json:

- a token other than bos, eos, pad or unk, which a text need not hold;
- a length beyond the context of a model that brings its own code, or of a model with computed
  positions (RoPE) that is only measured for comparison.

A model whose configuration names no positions is not checked for length. Imports neither torch nor
transformers, so that a plan from config.json alone stays fast.
"""

from collections.abc import Mapping
from typing import Protocol

from tasks.core.errors import DataError, NotAModel, RecipeError
from tasks.core.model.config import (
    OUR_MODEL_TYPE,
    context_tokens,
    has_foreign_code,
    rope_of,
    text_config,
)

_INSERTED = ("bos", "eos", "pad", "unk")
"""The tokens that code inserts without being asked to."""
_ROTARY = ("llama", OUR_MODEL_TYPE)
_SHOWN = 3


class Vocabulary(Protocol):
    """The part of a tokenizer of transformers that is needed here."""

    def get_vocab(self) -> dict[str, int]:
        """Return the id of every token, added ones included."""


def embedding_rows(config: Mapping[str, object]) -> int | None:
    """Return the number of rows of the embedding, None if config.json does not say."""
    rows = text_config(config).get("vocab_size")
    return rows if isinstance(rows, int) and not isinstance(rows, bool) and rows > 0 else None


def check_token_ids(config: Mapping[str, object], *, where: object) -> None:
    """Raise NotAModel if a bos, eos or pad token of config.json has no row in the embedding."""
    rows = embedding_rows(config)
    for name in _INSERTED[:3]:
        named = text_config(config).get(f"{name}_token_id")
        for token_id in named if isinstance(named, list) else [named]:
            if rows is not None and isinstance(token_id, int) and token_id >= rows:
                raise NotAModel(
                    f"config.json names a {name} token that the embedding has no row for.",
                    where=where,
                    expected=f"an id below {rows}, its vocab_size",
                    found=f"{name}_token_id = {token_id}",
                    next_step="Correct the id, or take the model whose embedding was enlarged.",
                )


def check_vocabulary(
    config: Mapping[str, object], tokenizer: Vocabulary, *, where: object
) -> tuple[str, ...]:
    """Return a warning for tokens that have no row in the embedding.

    Raises NotAModel if one of them is the tokenizer's bos, eos, pad or unk token.
    """
    rows = embedding_rows(config)
    if rows is None:
        return ()
    beyond = {token: at for token, at in tokenizer.get_vocab().items() if at >= rows}
    for name in _INSERTED:
        token = getattr(tokenizer, f"{name}_token", None)
        if token in beyond:
            raise NotAModel(
                f"The tokenizer's {name} token has no row in the model's embedding.",
                where=where,
                expected=f"ids below {rows}, the vocab_size of config.json",
                found=f"{token!r} has the id {beyond[token]}",
                next_step=_WITHOUT_ROW,
            )
    if not beyond:
        return ()
    by_id = sorted(beyond.items(), key=lambda item: item[1])
    shown = ", ".join(f"{token!r} ({at})" for token, at in by_id[:_SHOWN])
    more = f" and {len(beyond) - _SHOWN} more" if len(beyond) > _SHOWN else ""
    return (
        f"The tokenizer has {len(beyond)} token(s) that the embedding of {rows} rows does not: "
        f"{shown}{more}. A text that holds one cannot be read by the model.",
    )


def require_rows(config: Mapping[str, object], largest_id: int, *, where: object) -> None:
    """Raise DataError if the largest id of tokenized texts has no row in the embedding."""
    rows = embedding_rows(config)
    if rows is not None and largest_id >= rows:
        raise DataError(
            "A text holds a token that the model's embedding has no row for.",
            where=where,
            expected=f"ids below {rows}, the vocab_size of config.json",
            found=f"the id {largest_id}",
            next_step=_WITHOUT_ROW,
        )


def check_length(
    config: Mapping[str, object],
    length_tokens: int,
    *,
    setting: str,
    model: object,
    compared: bool = False,
) -> tuple[str, ...]:
    """Return a warning for a length beyond the model's context that may be intended.

    RoPE scaling lengthens the context. setting: the field of the recipe with the length. compared:
    the model is only measured for comparison. Raises RecipeError for any other length beyond the
    context.
    """
    context = context_tokens(config)
    if context is None or length_tokens <= context:
        return ()
    beyond = f"{setting} is {length_tokens}, and the context of {model} has {context} tokens"
    if has_foreign_code(config):
        return (f"{beyond}. Its own code may allow more.",)
    if compared and _is_rotary(config):
        return (f"{beyond}: it is measured beyond what it was trained for.",)
    raise RecipeError(
        "Conversations may be longer than the model's context.",
        where=setting,
        expected=f"at most {context} tokens, as config.json of {model} says",
        found=length_tokens,
        next_step=f"Set {setting} to {context} or less, or lengthen the context with "
        "edit.rope_scaling.",
    )


def _is_rotary(config: Mapping[str, object]) -> bool:
    """Return whether positions are computed, so that they exist beyond the trained context."""
    named = text_config(config)
    family = str(named.get("model_type")) in _ROTARY
    return family or "rope_theta" in named or bool(rope_of(named))


_WITHOUT_ROW = (
    "Take the token out of the tokenizer's files (tokenizer_config.json, added_tokens.json, "
    "tokenizer.json) and name another in its place, such as the eos token for padding; or take the "
    "model whose embedding was enlarged for it."
)
