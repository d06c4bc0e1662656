"""The last requests once more, by the model that is to serve: its answers beside the earlier one's.

Nothing is judged here, since other weights answer otherwise; both answers stand in the report, for
a person. But an engine that gives no answer to what clients really ask does not get to serve.
"""

from collections.abc import Sequence

from tasks.core.conversation.tokenizer_files import load_tokenizer
from tasks.core.conversation.tokenizer_identity import tokenizer_digest
from tasks.core.locks import Say
from tasks.core.serving import probe
from tasks.core.serving.gateway.recent import RecentAnswer
from tasks.core.serving.record import Deployment, ShadowAnswer

_TOKENS = 48
_SHOWN = 300  # characters of each text, from the end of what was asked


def replay(
    asked: Sequence[RecentAnswer], wanted: Deployment, earlier: Deployment, *, say: Say
) -> tuple[ShadowAnswer, ...]:
    """Return what the engine of `wanted` answers to what that of `earlier` was asked.

    Each answer has at most _TOKENS tokens. Nothing is replayed to a model with another tokenizer:
    the requests are token ids. Raises ServingFailed when the engine does not answer.
    """
    if not asked:
        return ()
    tokenizer = load_tokenizer(earlier.model)
    if tokenizer_digest(tokenizer) != tokenizer_digest(load_tokenizer(wanted.model)):
        say("The new model has another tokenizer: the last requests are not replayed.")
        return ()
    say(f"The new model answers the last {len(asked)} requests.")
    answers = []
    for each in asked:
        request = {
            **each.request,
            "model": wanted.settings.model_name,
            "max_tokens": min(each.request["max_tokens"], _TOKENS),
        }
        new = probe.answer_of(wanted, request, timeout_s=wanted.settings.startup_timeout_s)
        prompt = str(tokenizer.decode(each.request["prompt"], skip_special_tokens=True))
        answers.append(ShadowAnswer(asked=prompt[-_SHOWN:], earlier=each.text[:_SHOWN], new=new))
    return tuple(answers)
