"""Where the weights of a directory come from, and whether that lets them become public."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tasks.core.errors import RecipeError
from tasks.core.files.digests import FileDigest
from tasks.core.hub.publish.license import ACCEPTANCE, ANSWER_FOR_ORIGIN, require_publishable
from tasks.core.hub.publish.origin import Repo, origin_of
from tasks.core.keys import stage_key
from tasks.core.recipe import Publish
from tasks.core.store import Manifest, Staging, Store
from tasks.core.store.manifest import write_manifest

LLAMA_1 = [
    *("llama-13b", "LLaMA-13B", "llama_13b", "Llama-7b-hf", "huggyllama/llama-13b", "llama-1-65b"),
    *("/srv/models/LLaMA/13B", "decapoda-research/llama-30b-hf", "/home/a/llama-33b/"),
    *("lmsys/vicuna-13b-delta-v1.1", "lmsys/vicuna-7b-v1.3", "TheBloke/vicuna-13B-1.1-HF"),
    *("eachadea/vicuna-7b-delta-v0", "VICUNA-33B-V1.3"),
]
NOT_LLAMA_1 = [
    *("meta-llama/Llama-2-13b-hf", "openlm-research/open_llama_13b", "codellama/CodeLlama-7b-hf"),
    *("TinyLlama/TinyLlama-1.1B", "meta-llama/Llama-3.1-8B", "lmsys/vicuna-13b-v1.5", "llama-70b"),
]


def model(path: Path, card: str | None = None, **config: object) -> Path:
    """Make a directory of which only the origin can be asked."""
    path.mkdir(parents=True)
    (path / "config.json").write_text(json.dumps({"model_type": "llama", **config}))
    if card is not None:
        (path / "README.md").write_text(f"---\n{card}\n---\n# A model\n")
    return path


def artifact(
    path: Path, *, params: object = None, inputs: dict[str, Path] | None = None, **options: str
) -> Path:
    """Make an artifact of the store at path, made from others."""
    digests = {}
    for role, place in (inputs or {}).items():
        manifest = Manifest.model_validate_json((place / "manifest.json").read_bytes())
        digests[role] = manifest.content_digest
    write_manifest(
        model(path, **options),
        Manifest(
            stage=path.name,
            key="0" * 64,
            created_at=datetime.now(UTC),
            params=params,
            inputs=digests,
            files={path.name: FileDigest(1, path.name)},
            wall_s=0.0,
            peak_memory_bytes=0,
        ),
    )
    return path


def publicly(license: str, accepted: str | None = None) -> Publish:
    return Publish(repo="a/b", private=False, license=license, accept_license=accepted)


def refusal(path: Path, target: Publish) -> str:
    with pytest.raises(RecipeError) as told:
        require_publishable(origin_of(path), target)
    return str(told.value)


# --- LLaMA 1, however it is written ----------------------------------------------------------


@pytest.mark.parametrize("name", LLAMA_1)
def test_llama_1_is_recognised_by_name_or_path(tmp_path: Path, name: str) -> None:
    path = model(tmp_path / "m", _name_or_path=name)
    assert "licence that the weights do not have" in refusal(path, publicly("mit"))
    assert ACCEPTANCE in refusal(path, publicly("other"))
    require_publishable(origin_of(path), publicly("other", ACCEPTANCE))


@pytest.mark.parametrize("name", NOT_LLAMA_1)
def test_what_only_sounds_like_llama_1_is_not_taken_for_it(tmp_path: Path, name: str) -> None:
    path = model(tmp_path / "m", card=f"base_model: {name}\nlicense: apache-2.0")
    require_publishable(origin_of(path), publicly("apache-2.0"))


def test_the_directorys_own_name_shows_llama_1_too(tmp_path: Path) -> None:
    path = model(tmp_path / "LLaMA-13B", card="license: mit")
    assert "licence that the weights do not have" in refusal(path, publicly("mit"))


def test_a_card_with_a_free_licence_does_not_free_llama_1(tmp_path: Path) -> None:
    path = model(tmp_path / "m", card="license: mit\nbase_model: huggyllama/llama-13b")
    assert "licence that the weights do not have" in refusal(path, publicly("mit"))


@pytest.mark.parametrize(
    "listed", ["[some/merge, huggyllama/llama-7b]", "\n- some/merge\n- huggyllama/llama-7b"]
)
def test_each_base_of_a_list_counts(tmp_path: Path, listed: str) -> None:
    path = model(tmp_path / "m", card=f"license: apache-2.0\nbase_model: {listed}")
    assert ACCEPTANCE in refusal(path, publicly("other"))


def test_a_base_that_is_a_directory_is_asked_in_turn(tmp_path: Path) -> None:
    base = model(tmp_path / "base", card="base_model: huggyllama/llama-13b")
    tuned = model(tmp_path / "tuned", card=f"base_model: {base}\nlicense: mit")
    again = model(tmp_path / "again", _name_or_path="../tuned")
    assert ACCEPTANCE in refusal(again, publicly("other"))
    assert origin_of(again).repos == origin_of(tuned).repos == (Repo("huggyllama/llama-13b"),)


def test_directories_that_name_each_other_end_the_question(tmp_path: Path) -> None:
    one = model(tmp_path / "one", _name_or_path="../two")
    model(tmp_path / "two", _name_or_path="../one")
    assert not origin_of(one).is_known


# --- artifacts of the store ------------------------------------------------------------------


def test_a_merged_model_of_the_store_comes_from_what_was_downloaded(tmp_path: Path) -> None:
    store = tmp_path / "store"
    base = artifact(store / "base", params={"repo": "huggyllama/llama-13b", "commit": "b" * 40})
    delta = artifact(store / "delta", params={"repo": "some/delta", "commit": "d" * 40})
    merged = artifact(store / "merge", inputs={"base": base, "delta": delta})
    edited = artifact(store / "edit", inputs={"model": merged})
    origin = origin_of(edited)
    repos = (Repo("huggyllama/llama-13b", "b" * 40), Repo("some/delta", "d" * 40))
    assert (origin.repos, origin.is_known) == (repos, True)
    assert ACCEPTANCE in refusal(edited, publicly("other"))


def test_an_input_that_is_gone_leaves_the_origin_unknown(tmp_path: Path) -> None:
    store = tmp_path / "store"
    base = artifact(store / "base", params={"repo": "some/base", "commit": "b" * 40})
    gone = artifact(tmp_path / "elsewhere" / "delta", params={"repo": "some/delta"})
    merged = artifact(
        store / "merge", inputs={"base": base, "delta": gone}, card="license: apache-2.0"
    )
    assert not origin_of(merged).is_known
    assert ANSWER_FOR_ORIGIN in refusal(merged, publicly("apache-2.0"))


def test_an_input_that_was_freed_still_tells_where_it_came_from(tmp_path: Path) -> None:
    store = Store(tmp_path)

    def download(staging: Staging) -> None:
        model(staging.path / "new", card="license: cc-by-nc-4.0")
        for file in (staging.path / "new").iterdir():
            file.rename(staging.path / file.name)
        (staging.path / "new").rmdir()
        (staging.path / "weights").write_bytes(b"w" * (1 << 18))

    def link(staging: Staging) -> None:
        (staging.path / "weights").write_bytes(b"merged")

    params = {"repo": "some/base", "commit": "b" * 40}
    base = store.build(stage_key("download", 1, params), download, params=params).artifact
    inputs = {"model": base.digest}
    merged = store.build(stage_key("merge", 1, {}), link, inputs=inputs).artifact
    whole = origin_of(base.path), origin_of(merged.path)
    assert whole[0].licenses == ("cc-by-nc-4.0",)
    assert whole[0].is_llama
    assert store.free(str(base.key))
    assert (origin_of(base.path), origin_of(merged.path)) == whole


def test_another_programs_manifest_tells_nothing(tmp_path: Path) -> None:
    path = model(tmp_path / "m", card="license: apache-2.0")
    (path / "manifest.json").write_text('{"name": "a web page"}')
    require_publishable(origin_of(path), publicly("apache-2.0"))


# --- unknown, or said otherwise --------------------------------------------------------------


@pytest.mark.parametrize(
    "card", [None, "license: other", "license: unknown", "tags: [id]", "- a list", "a: b: c"]
)
def test_what_nobody_knows_becomes_public_only_with_a_sentence(
    tmp_path: Path, card: str | None
) -> None:
    path = model(tmp_path / "m", card=card, _name_or_path="/srv/out")
    for license_id in ("mit", "other"):
        assert ANSWER_FOR_ORIGIN in refusal(path, publicly(license_id))
    assert "architecture is LLaMA's" in refusal(path, publicly("mit"))
    require_publishable(origin_of(path), publicly("mit", ANSWER_FOR_ORIGIN.upper() + "."))
    require_publishable(origin_of(path), publicly("other", ACCEPTANCE))


def test_of_another_architecture_the_advice_does_not_speak_of_llama(tmp_path: Path) -> None:
    path = model(tmp_path / "m", model_type="gpt_neox")
    assert "LLaMA" not in refusal(path, publicly("mit"))


def test_a_sentence_that_is_not_the_sentence_does_not_count(tmp_path: Path) -> None:
    assert ANSWER_FOR_ORIGIN in refusal(model(tmp_path / "m"), publicly("mit", "yes"))


def test_another_licence_than_the_models_own_needs_a_sentence(tmp_path: Path) -> None:
    path = model(tmp_path / "m", card="license: apache-2.0")
    told = refusal(path, publicly("mit"))
    assert "another licence" in told and "apache-2.0, or other" in told
    require_publishable(origin_of(path), publicly("mit", ANSWER_FOR_ORIGIN))
    require_publishable(origin_of(path), publicly("apache-2.0"))


def test_no_sentence_frees_a_non_commercial_card(tmp_path: Path) -> None:
    path = model(tmp_path / "m", card="license: cc-by-nc-4.0")
    for sentence in (None, ACCEPTANCE, ANSWER_FOR_ORIGIN):
        assert "do not have" in refusal(path, publicly("mit", sentence))
    assert ACCEPTANCE in refusal(path, publicly("cc-by-nc-4.0"))
    require_publishable(origin_of(path), publicly("cc-by-nc-4.0", ACCEPTANCE))


def test_a_private_repository_asks_for_no_sentence(tmp_path: Path) -> None:
    require_publishable(origin_of(model(tmp_path / "m")), Publish(repo="a/b", license="mit"))
