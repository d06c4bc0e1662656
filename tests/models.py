"""Tiny models and tokenizers for tests, made on the spot: the real classes, a few kilobytes."""

from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

WORDS = [
    *("selamat", "datang", "di", "warung", "kami", "apa", "kabar", "usaha"),
    *("modal", "laba", "rugi", "izin", "pajak", "stok", "harga"),
]


def tiny_tokenizer(vocab: int = 320) -> PreTrainedTokenizerFast:
    """Return a byte-level BPE tokenizer with LLaMA's special tokens that encodes any text."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = ["<unk>", "<s>", "</s>", *alphabet]
    if vocab < len(tokens):
        raise ValueError(f"a byte-level tokenizer needs at least {len(tokens)} tokens")
    bpe = Tokenizer(models.BPE({token: i for i, token in enumerate(tokens)}, [], unk_token="<unk>"))
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe, unk_token="<unk>", bos_token="<s>", eos_token="</s>"
    )


def tiny_llama(
    path: Path,
    *,
    layers: int = 3,
    hidden: int = 32,
    vocab: int = 320,
    dtype: str = "float16",
    seed: int = 0,
    sharded: bool = False,
    tie: bool = False,
    max_positions: int = 2048,
) -> Path:
    """Save a random LLaMA of `layers` layers with a tokenizer under path, and return path."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=vocab,
        hidden_size=hidden,
        intermediate_size=hidden * 2,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=max_positions,
        tie_word_embeddings=tie,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=2,
    )
    model = LlamaForCausalLM(config).to(getattr(torch, dtype))
    model.save_pretrained(path, max_shard_size="20KB" if sharded else "5GB")
    tiny_tokenizer(vocab).save_pretrained(path)
    return path


def tiny_delta(base: Path, target: Path, path: Path) -> Path:
    """Save target - base with the target's tokenizer under path, and return path."""
    models = [LlamaForCausalLM.from_pretrained(place) for place in (target, base)]
    weights, base_weights = (model.state_dict() for model in models)
    for name in weights:
        weights[name].sub_(base_weights[name])
    models[0].save_pretrained(path)
    AutoTokenizer.from_pretrained(target).save_pretrained(path)
    return path
