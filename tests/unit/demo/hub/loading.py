"""What anybody does with a model on the Hub: `REPO REFERENCE`; it answers as the reference does."""

import sys

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer


def main() -> None:
    """Load the model and the tokenizer, and compare the model with the reference, bit by bit."""
    mine, reference = (AutoModelForCausalLM.from_pretrained(path) for path in sys.argv[1:])
    AutoTokenizer.from_pretrained(sys.argv[1])
    ids = torch.arange(8).unsqueeze(0)
    assert torch.equal(mine(ids).logits, reference(ids).logits)


if __name__ == "__main__":
    main()
