"""A LLaMA tokenizer made on the spot: the real class, sentencepiece's spaces, byte fallback."""

import json

from fastchat.conversation import get_conv_template
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
from transformers import LlamaTokenizer

from tests.models import WORDS

_SPECIAL = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]


def llama_tokenizer(*, legacy: bool = True) -> LlamaTokenizer:
    """Return a tokenizer that begins with BOS and, when legacy, puts a space after each mark."""
    trained = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    trained.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", split=True)
    corpus = [" ".join(WORDS), get_conv_template("vicuna_v1.1").get_prompt(), "USER: ASSISTANT:"]
    trained.train_from_iterator(
        corpus, trainers.BpeTrainer(vocab_size=600, special_tokens=_SPECIAL)
    )
    bpe = json.loads(trained.to_str())["model"]
    tokenizer = LlamaTokenizer(
        vocab=bpe["vocab"], merges=[tuple(pair) for pair in bpe["merges"]], legacy=legacy
    )
    tokenizer._tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", tokenizer.bos_token_id)]
    )
    tokenizer.pad_token = tokenizer.unk_token
    return tokenizer
