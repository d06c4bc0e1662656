"""Evaluation of the demo's models and proof of its edit, beside those of an earlier revision.

    python -m tests.benchmarks.bench_evaluate [--quick] [--busy] [--models DIR]

Both trees measure the same models with the demo's settings, in turn; the figures of both have to be
the same within TOLERANCE, and the answers word for word. `--busy` lets other processes take the
cores meanwhile. `limit_s` is what importing torch and transformers, loading the models, one forward
pass over each conversation and `generate` take with nothing around them: the processor's time, not
ours. A line of JSON a row: `ratio` is our time in shares of the earlier one.
"""

import argparse
import json
import math
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import islice
from pathlib import Path

from transformers import AutoTokenizer

from tasks.core.conversation.checking.rules import Rules
from tasks.core.conversation.checking.screening import screen
from tasks.core.conversation.examples.labels import IGNORED, Encoder
from tasks.core.conversation.template.render import get_template
from tasks.core.evaluation.prompts import choose, read_prompts
from tasks.core.recipe import Evaluate
from tasks.core.system.cores import usable_cores
from tests.benchmarks.demo_chain import TEMPLATE, demo_chain
from tests.benchmarks.earlier import HERE, Took, checkout, run_in, show_row

TOLERANCE = 1e-4
"""Of a figure: sums of float32 in another order."""

EVALUATE = """
import json, sys
from pathlib import Path
from tasks.core.evaluation.evaluate import evaluate_models
from tasks.core.evaluation.figures import subjects_of
from tasks.core.recipe import Evaluate
models, out = json.loads(sys.argv[1]), Path(sys.argv[2])
settings = Evaluate(device="cpu", max_length_tokens=512, **json.loads(sys.argv[4]))
subjects = subjects_of([(role, Path(path)) for role, path in models])
print(evaluate_models(subjects, settings, template=sys.argv[3], out=out).model_dump_json())
"""
LIMIT = """
import json, sys
import torch
from transformers import AutoModelForCausalLM
job = json.loads(sys.argv[1])
prompts, mask = (torch.tensor(job[name]) for name in ("prompts", "mask"))
for path in job["models"]:
    model = AutoModelForCausalLM.from_pretrained(
        path, trust_remote_code=True, dtype=torch.float32
    ).eval()
    with torch.inference_mode():
        for input_ids, learned in job["conversations"]:
            states = model.base_model(torch.tensor([input_ids]), use_cache=False)[0][0, learned]
            model.lm_head(states).log_softmax(-1)
        model.generate(
            prompts,
            attention_mask=mask,
            max_new_tokens=job["max_new_tokens"],
            do_sample=False,
            pad_token_id=0,
        )
"""
PROVE = """
import sys
from pathlib import Path
from tasks.core.architecture.proof.edit_proof import prove_edit
from tasks.core.recipe import Edit
prove_edit(Path(sys.argv[2]), Edit(), unedited=Path(sys.argv[1]))
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two models, one conversation")
    parser.add_argument("--busy", action="store_true", help="beside a process on each core")
    parser.add_argument("--models", type=Path, default=Path(".benchmarks/demo-chain"))
    chosen = parser.parse_args(arguments)
    models = [(str(role), str(path.resolve())) for role, path in demo_chain(chosen.models)]
    with ExitStack() as held:
        earlier = held.enter_context(checkout())
        if chosen.busy:
            held.enter_context(_other_work())
        _proof(earlier, dict(models), times=1 if chosen.quick else 3)
        _evaluation(earlier, models[1:3] if chosen.quick else models, quick=chosen.quick)


def _proof(earlier: Path, models: dict[str, str], *, times: int) -> None:
    directories = models["merged"], models["edited"]
    _run(earlier, PROVE, *directories)  # the libraries and the weights are in the page cache then
    taken: dict[Path, list[float]] = {HERE: [], earlier: []}
    for _ in range(times):
        for tree, seconds in taken.items():
            seconds.append(_run(tree, PROVE, *directories).wall_s)
    show_row("proof of an edit", taken[HERE], taken[earlier], limit_s=6.0)


def _evaluation(earlier: Path, models: list[tuple[str, str]], *, quick: bool) -> None:
    settings = {"max_conversations": 4, "max_prompts": 2, "max_new_tokens": 24}
    if quick:
        settings = {"max_conversations": 1, "max_prompts": 2, "max_new_tokens": 8}
    told = json.dumps(models), TEMPLATE, json.dumps(settings)
    found = []
    for tree in (HERE, earlier):
        with tempfile.TemporaryDirectory() as out:
            found.append(_run(tree, EVALUATE, told[0], out, *told[1:]))
    ours, theirs = (json.loads(each.output.splitlines()[-1]) for each in found)
    limit = _run(HERE, LIMIT, json.dumps(_bare_job(models, settings)))
    differences = list(_differences(ours, theirs))
    show_row(
        "evaluation",
        [found[0].wall_s],
        [found[1].wall_s],
        limit_s=round(limit.wall_s, 3),
        by_limit=round(found[0].wall_s / limit.wall_s, 2),
        largest_difference=max(differences),
        peak_bytes=[
            max(f["peak_memory_bytes"] for f in each["figures"]) for each in (ours, theirs)
        ],
    )
    if max(differences) > TOLERANCE:
        raise SystemExit(f"the figures differ by more than {TOLERANCE} of them")


def _bare_job(models: list[tuple[str, str]], settings: dict[str, int]) -> dict[str, object]:
    """Return the tokens that both trees measure, for a program that knows nothing else."""
    own = Evaluate(device="cpu", max_length_tokens=512, **settings)
    tokenizer = AutoTokenizer.from_pretrained(models[0][1])
    encoder = Encoder(tokenizer, TEMPLATE, own.max_length_tokens)
    screening = screen(own.conversations, Rules.of_held_out(own), encoder=encoder)
    kept = islice(screening.conversations(), own.max_conversations)
    examples = [encoder.encode(conversation) for _, conversation in kept]
    template, asked = get_template(TEMPLATE), []
    for prompt in choose(read_prompts(own.prompts), own.max_prompts):
        asked_of = template.copy()
        asked_of.append_message(template.roles[0], prompt.text)
        asked_of.append_message(template.roles[1], None)
        asked.append(asked_of.get_prompt())
    tokenizer.padding_side, tokenizer.pad_token = "left", tokenizer.eos_token
    padded = tokenizer(asked, padding=True)
    return {
        "models": [path for _, path in models],
        "conversations": [
            (each.input_ids, [i for i, label in enumerate(each.labels[1:]) if label != IGNORED])
            for each in examples
        ],
        "prompts": padded["input_ids"],
        "mask": padded["attention_mask"],
        "max_new_tokens": own.max_new_tokens,
    }


def _differences(ours: dict[str, list], theirs: dict[str, list]) -> Iterator[float]:  # type: ignore[type-arg]
    """Yield by which share of it each figure differs, and infinity for another answer."""
    names = {"figures": ("nll_nats",), "comparisons": ("kl_divergence_nats", "top1_agreement")}
    for part, figures in names.items():
        for one, other in zip(ours[part], theirs[part], strict=True):
            yield from (abs(one[n] - other[n]) / (abs(other[n]) or 1.0) for n in figures)
    for one, other in zip(ours["answers"], theirs["answers"], strict=True):
        yield 0.0 if one["text"] == other["text"] else math.inf


def _run(tree: Path, program: str, *arguments: str) -> Took:
    took = run_in(tree, program, *arguments)
    if took.exit_code != 0:
        raise SystemExit(f"{tree} ended with code {took.exit_code}")
    return took


@contextmanager
def _other_work() -> Iterator[None]:
    busy = [
        subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(usable_cores())
    ]
    try:
        yield
    finally:
        for each in busy:
            each.kill()
            each.wait()


if __name__ == "__main__":
    main()
