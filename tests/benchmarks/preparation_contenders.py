"""One way to prepare data, timed; run as a file, with the project that PYTHONPATH names.

    python preparation_contenders.py WAY TOKENIZER WARM-UP-DATA DATA OUT

Each way does its work once with little data, so that imports and first calls are not in the time.
"""

import json
import sys
import time
from itertools import islice
from pathlib import Path

TEMPLATE = "vicuna_v1.1"
LENGTH = 2048
_TURNS, _TIMES = 256, 20


def project(model: Path, data: Path, out: Path) -> None:
    """Check, tokenize, divide and write, as the stage does."""
    from tasks.core.conversation.prepared import prepare_examples
    from tasks.core.recipe import Finetune

    settings = Finetune(max_length_tokens=LENGTH, validation_share=0.05, max_dropped_share=0.2)
    prepare_examples(model, data, settings, TEMPLATE, out=out)


def rendering(_model: Path, _data: Path, _out: Path) -> None:
    """Render one conversation of many turns, several times."""
    from tasks.core.conversation.records import Conversation, Turn

    try:
        from tasks.core.conversation.template.render import render_conversation
    except ImportError:  # an earlier revision
        from tasks.core.conversation.template import render as render_conversation

    turns = [Turn("gpt" if number % 2 else "human", "kata " * 40) for number in range(_TURNS)]
    for _ in range(_TIMES):
        render_conversation(Conversation("x", tuple(turns)), TEMPLATE)


def fastchat(model: Path, data: Path, _out: Path) -> None:
    """Do what FastChat's training does with each record when it gets it."""
    from fastchat.train.train import preprocess
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model)
    tokenizer.model_max_length, tokenizer.padding_side = LENGTH, "right"  # as its train() does
    tokenizer.legacy = True  # it asks every tokenizer whether it is LLaMA's old one
    with data.open("rb") as lines:
        for line in lines:
            turns = json.loads(line)["conversations"]
            if len(turns) > 1:  # it asks for an answer
                preprocess([turns], tokenizer)


def limit(model: Path, data: Path, _out: Path) -> None:
    """Decode and tokenize the words, and nothing else; the tokenizer takes all cores."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
    with data.open("rb") as file:
        while lines := list(islice(file, 256)):
            records = [json.loads(line)["conversations"] for line in lines]
            texts = [" ".join(turn["value"] for turn in record) for record in records]
            for encoded in tokenizer.encode_batch(texts):
                _ = encoded.ids


def main(way: str, *places: str) -> None:
    """Print how many seconds the way takes."""
    work = {each.__name__: each for each in (project, rendering, fastchat, limit)}[way]
    model, warm, data, out = map(Path, places)
    work(model, warm, out)
    for left in out.iterdir():  # what was made is not made again
        left.unlink()
    start = time.perf_counter()
    work(model, data, out)
    print(time.perf_counter() - start)


if __name__ == "__main__":
    main(*sys.argv[1:])
