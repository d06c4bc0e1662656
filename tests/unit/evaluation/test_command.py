import json
import os
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from flows.cli import app
from tasks.core.errors import DataError, RecipeError, UsageError
from tests.models import tiny_llama

pytestmark = pytest.mark.usefixtures("preforked_children")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("command")
    for seed, name in enumerate(("one", "other")):
        tiny_llama(root / name, seed=seed, dtype="float32")
    turns = [{"from": "human", "value": "Halo?"}, {"from": "gpt", "value": "Halo juga."}]
    (root / "held_out.json").write_text(json.dumps([{"id": "a", "conversations": turns}]))
    (root / "prompts.json").write_text(json.dumps([{"id": "p", "prompt": "Apa itu NIB?"}]))
    return root


def run(place: Path, *options: str) -> Result:
    settings = [
        *(
            "--conversations",
            str(place / "held_out.json"),
            "--prompts",
            str(place / "prompts.json"),
        ),
        *("--device", "cpu", "--max-new-tokens", "4"),
    ]
    return CliRunner().invoke(app, ["evaluate", str(place / "one"), *settings, *options])


def test_model_against_another_is_told_as_json_and_as_a_page(place: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    result = run(place, "--against", str(place / "other"), "--json", "--report", str(page))
    assert result.exit_code == 0, result.output
    outcome = json.loads(result.stdout)["outcome"]
    assert [figures["role"] for figures in outcome["figures"]] == ["against", "model"]
    perplexities = [figures["perplexity_per_token"] for figures in outcome["figures"]]
    ratio = outcome["comparisons"][0]["perplexity_ratio"]
    assert ratio == pytest.approx(perplexities[1] / perplexities[0])
    assert f"{perplexities[1]:,.2f}" in page.read_text()
    assert outcome["comparisons"][0]["kl_divergence_nats"] > 0
    assert "against → model" in page.read_text()


def test_an_unknown_template_is_refused_before_a_model_is_fetched(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr("flows.actions.evaluate.local_model")
    refused = run(place, "--template", "vicunna").exception
    assert isinstance(refused, RecipeError)
    assert "vicunna" in str(refused)


def test_what_the_model_was_trained_on_is_held_against_what_it_is_measured_with(
    place: Path, tmp_path: Path
) -> None:
    training, page = tmp_path / "training.json", tmp_path / "page.html"
    held_out = json.loads((place / "held_out.json").read_text())
    training.write_text(json.dumps(held_out))
    result = run(place, "--training-data", str(training), "--json", "--report", str(page))
    assert result.exit_code == 1
    told = json.loads(result.stdout)
    leaks = told["outcome"]["held_out"]["leaks"]
    assert (leaks["exact"], leaks["held_out_records"]) == (1, 1)
    assert not told["verdict"]["passed"]
    assert "1 of 1 held-out conversations stand in the training data" in page.read_text()


def test_a_part_that_leaks_is_a_warning(place: Path, tmp_path: Path) -> None:
    turns = [{"from": "human", "value": "Berapa?"}, {"from": "gpt", "value": "Dua juta rupiah."}]
    both = tmp_path / "both.json"
    old = json.loads((place / "held_out.json").read_text())
    both.write_text(json.dumps([*old, {"id": "b", "conversations": turns}]))
    result = run(
        place, "--conversations", str(both), "--training-data", str(place / "held_out.json")
    )
    assert result.exit_code == 0, result.output
    assert "1 of 2 held-out conversations stand in the training data" in result.stdout


def test_only_what_is_measured_counts_as_a_leak(place: Path, tmp_path: Path) -> None:
    """The first record is new, but too long to be measured: all that is measured leaks."""
    turns = [{"from": "human", "value": "Halo?"}, {"from": "gpt", "value": "panjang " * 400}]
    both, old = tmp_path / "both.json", json.loads((place / "held_out.json").read_text())
    both.write_text(json.dumps([{"id": "long", "conversations": turns}, *old]))
    training = ("--training-data", str(place / "held_out.json"))
    limits = ("--max-length-tokens", "200", "--max-conversations", "1")
    result = run(place, "--conversations", str(both), *training, *limits, "--json")
    assert result.exit_code == 1, result.output
    held_out = json.loads(result.stdout)["outcome"]["held_out"]
    assert (held_out["records"], held_out["measured"]) == (2, 1)
    assert (held_out["leaks"]["exact"], held_out["leaks"]["held_out_records"]) == (1, 1)


def test_conversations_and_prompts_may_come_through_a_pipe(place: Path) -> None:
    """The measuring process has no such pipe."""
    ends = []
    for name in ("held_out.json", "prompts.json"):
        read_end, write_end = os.pipe()
        os.write(write_end, (place / name).read_bytes())
        os.close(write_end)
        ends.append(read_end)
    conversations, prompts = (f"/dev/fd/{end}" for end in ends)
    result = run(place, "--conversations", conversations, "--prompts", prompts)
    assert result.exit_code == 0, result.output
    for end in ends:
        os.close(end)


def test_model_against_itself_is_measured_once_and_its_limit_does_not_apply(place: Path) -> None:
    limit = ("--max-perplexity-ratio", "1.1")
    result = run(place, "--against", str(place / "other" / ".." / "one"), *limit, "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert [figures["role"] for figures in found["outcome"]["figures"]] == ["model"]
    (check,) = found["verdict"]["checks"]
    assert not check["applies"]
    assert "with itself" in check["reason"]


def test_limit_that_is_not_kept_ends_with_code_1(place: Path) -> None:
    result = run(place, "--max-perplexity", "1.01")
    assert result.exit_code == 1
    assert "above the limit 1.01" in result.stdout


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        (("--device", "tpu"), UsageError, "device"),
        (("--max-perplexity-ratio", "1.1"), UsageError, "needs another model"),
        (("--prompts", "nowhere.json"), DataError, "nowhere.json"),
    ],
)
def test_wrong_words_are_refused_before_a_model_is_loaded(
    place: Path, options: tuple[str, ...], error: type[Exception], words: str
) -> None:
    result = run(place, *options)
    assert isinstance(result.exception, error)
    assert words in str(result.exception)
