"""What to do about each fault of a record, in words. Pure.

The words are for people who look after the data, not for programmers.
"""

from typing import Literal

from tasks.core.conversation.records import Fault

Section = Literal["finetune", "evaluate"]
"""The part of a recipe that the records are read for, where their limits stand."""

_REMEDIES = {
    Fault.NOT_JSON: "Correct the syntax in the line that is named.",
    Fault.NOT_UTF8: "Save the file as UTF-8; it was probably written in another encoding.",
    Fault.WRONG_FIELDS: 'Write {"id": ..., "conversations": [{"from": ..., "value": ...}, ...]}, '
    "or name the format that they are in.",
    Fault.UNKNOWN_SPEAKER: "Rename the speaker to human or gpt.",
    Fault.WRONG_ORDER: "Begin with human and alternate; --merge-neighbours joins neighbours.",
    Fault.EMPTY_TURN: "Write what was said there, or take the turn and its answer out.",
    Fault.NO_ANSWER: "Add an answer, or take the record out: there is nothing to learn.",
    Fault.SAME_ANSWERS: "Take it out: of two equal answers none is better.",
    Fault.MARK_IN_TEXT: "Write the mark differently: the model would take it for its own.",
    Fault.TOO_LONG: "Raise SECTION.max_length_tokens, or shorten the first question and answer.",
    Fault.PERSONAL_DATA: "Take it out or replace it: a model can repeat what it has read.",
    Fault.OTHER_LANGUAGE: "Translate it, take it out, or set finetune.language.",
    Fault.DUPLICATE: "Keep one of them: what is said twice is learned twice.",
    Fault.NEAR_DUPLICATE: "Keep the better one, or make them differ more.",
}


def remedy(fault: Fault, section: Section = "finetune") -> str:
    """Return what to do about a fault of records that are read for a section of a recipe."""
    return _REMEDIES[fault].replace("SECTION", section)
