"""What anybody does with a published model: `REPO [REVISION]`; prints what it has become."""

import json
import sys

from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer


def main() -> None:
    """Load the model with its code, weights and tokenizer."""
    repo, revision = sys.argv[1], (sys.argv[2:] or [None])[0]
    model = AutoModelForCausalLM.from_pretrained(repo, revision=revision, trust_remote_code=True)
    config = AutoConfig.from_pretrained(repo, revision=revision, trust_remote_code=True)
    AutoTokenizer.from_pretrained(repo, revision=revision, trust_remote_code=True)
    found = {
        "class": type(model).__name__,
        "module": type(model).__module__,
        "model_type": config.model_type,
        "activations": [str(layer.mlp.act_fn) for layer in model.model.layers],
        "report": model.kawan_usaha_report() if hasattr(model, "kawan_usaha_report") else None,
    }
    print(json.dumps(found))  # noqa: T201


if __name__ == "__main__":
    main()
