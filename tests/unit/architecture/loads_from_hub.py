"""`python -m … REPO REVISION`: load an edited model from a Hub, and print its report."""

import json
import sys

from transformers import AutoModelForCausalLM

if __name__ == "__main__":
    _, repo, revision = sys.argv
    model = AutoModelForCausalLM.from_pretrained(repo, revision=revision, trust_remote_code=True)
    print("ANSWER " + json.dumps(model.kawan_usaha_report()))  # noqa: T201
