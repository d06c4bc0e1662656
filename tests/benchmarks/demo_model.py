"""The demo's model as a directory: what its base and delta add up to."""

from pathlib import Path

from tasks.core.demo.models import find_gguf, load_gguf


def save_demo_model(path: Path) -> Path:
    """Save the model with its tokenizer, and return path."""
    model, tokenizer = load_gguf(find_gguf())
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path
