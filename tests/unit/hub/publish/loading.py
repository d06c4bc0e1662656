"""What anybody does with a published model: `REPO REVISION`; prints class, module and type."""

import json
import sys

from transformers import AutoConfig, AutoModelForCausalLM


def main() -> None:
    """Load the model with its code and weights."""
    repo, revision = sys.argv[1:]
    model = AutoModelForCausalLM.from_pretrained(repo, revision=revision, trust_remote_code=True)
    config = AutoConfig.from_pretrained(repo, revision=revision, trust_remote_code=True)
    print(json.dumps([type(model).__name__, type(model).__module__, config.model_type]))  # noqa: T201


if __name__ == "__main__":
    main()
