"""What to do about each fault of a record, in words for people who look after the data. Pure."""

from typing import Literal

from tasks.core.conversation.records import RecordFault

Caller = Literal["finetune", "evaluate", "check"]
"""Who reads the records: a stage, whose section of the recipe has the limits, or `data check`."""

_FINETUNE = {
    "LANGUAGE": "set finetune.language",
    "MERGE": "finetune.same_speaker: merge joins neighbours",
    "LENGTH": "finetune.max_length_tokens",
}
_WORDS: dict[Caller, dict[str, str]] = {
    "finetune": _FINETUNE,
    "evaluate": _FINETUNE
    | {"MERGE": "join neighbouring turns", "LENGTH": "evaluate.max_length_tokens"},
    "check": {
        "LANGUAGE": "accept any with --language any",
        "MERGE": "--merge-neighbours joins neighbours",
        "LENGTH": "--max-length",
    },
}
_REMEDIES = {
    RecordFault.NOT_JSON: "Correct the syntax in the line that is named.",
    RecordFault.NOT_UTF8: "Save the file as UTF-8; it was probably written in another encoding.",
    RecordFault.WRONG_FIELDS: 'Write {"id": ..., "conversations": [{"from": ..., "value": ...}, '
    "...]}, or name the format that they are in.",
    RecordFault.UNKNOWN_SPEAKER: "Rename the speaker to human or gpt.",
    RecordFault.WRONG_ORDER: "Begin with human and alternate; MERGE.",
    RecordFault.EMPTY_TURN: "Write what was said there, or remove the turn and its answer.",
    RecordFault.NO_ANSWER: "Add an answer, or remove the record: there is nothing to learn.",
    RecordFault.SAME_ANSWERS: "Remove it: of two equal answers neither is better.",
    RecordFault.MARK_IN_TEXT: "Write the mark differently: the model would take it for its own.",
    RecordFault.TOO_LONG: "Raise LENGTH, or shorten the first question and answer.",
    RecordFault.PERSONAL_DATA: "Remove or replace it: a model can repeat what it has read.",
    RecordFault.OTHER_LANGUAGE: "Translate it, remove it, or LANGUAGE.",
    RecordFault.DUPLICATE: "Keep one of them: what is said twice is learned twice.",
    RecordFault.NEAR_DUPLICATE: "Keep the better one, or make them differ more.",
}


def remedy(fault: RecordFault, caller: Caller = "finetune") -> str:
    """Return what to do about a fault, in the words of the recipe or of the command line."""
    text = _REMEDIES[fault]
    for name, words in _WORDS[caller].items():
        text = text.replace(name, words)
    return text
