"""Code that a model brings: only its own directory's, and whose it is is told byte for byte."""

import json
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.core.architecture.edit import edit_model
from tasks.core.errors import UntrustedCode
from tasks.core.files.digests import digest_of
from tasks.core.files.foreign import leaves
from tasks.core.model.code import (
    brings_only_our_code,
    foreign_code,
    references,
    require_code_inside,
)
from tasks.core.recipe import Edit
from tasks.core.weights.model_check import check_model
from tests.models import tiny_llama

ELSEWHERE = [
    "evil/repo--modeling.Evil",
    "repo--modeling.Evil",
    "/models/evil.Evil",
    "../evil.Evil",
    "sub/../../evil.Evil",
    "sub\\evil.Evil",
    "evil\0.Evil",
    "",
]
TEXT = st.text(alphabet=st.sampled_from("ab./\\-_\0\n é"), max_size=12)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_llama(tmp_path_factory.mktemp("plain") / "model", layers=2, hidden=16)


@pytest.fixture
def model(plain: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(plain, tmp_path / "model"))


@pytest.fixture(scope="module")
def ours(plain: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("edited")
    edit_model(plain, Edit(), out)
    return out


@pytest.fixture
def edited(ours: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(ours, tmp_path / "edited"))


def say(model: Path, file: str, **fields: object) -> None:
    path = model / file
    document = json.loads(path.read_bytes()) if path.exists() else {}
    path.write_text(json.dumps({**document, **fields}))


def foreign_code_of(model: Path) -> tuple[str, ...]:
    """All of the model is here."""
    return foreign_code(model, digests(model))


def digests(model: Path) -> dict[str, str]:
    files = [path for path in model.rglob("*") if path.is_file()]
    return {path.relative_to(model).as_posix(): digest_of(path).sha256 for path in files}


# --- where code comes from -------------------------------------------------------------------


@pytest.mark.parametrize("reference", ELSEWHERE)
@pytest.mark.parametrize(
    ("file", "kind"),
    [
        ("config.json", "AutoModelForCausalLM"),
        ("tokenizer_config.json", "AutoTokenizer"),
        ("processor_config.json", "AutoProcessor"),
        ("config.5.0.0.json", "AutoConfig"),
    ],
)
def test_code_of_another_place_is_refused_whoever_names_it(
    model: Path, file: str, kind: str, reference: str
) -> None:
    say(model, file, auto_map={kind: reference})
    with pytest.raises(UntrustedCode, match=f"none of it was run[\\s\\S]*{file}"):
        check_model(model)


def test_the_second_of_two_tokenizers_is_looked_at_too(model: Path) -> None:
    say(model, "tokenizer_config.json", auto_map={"AutoTokenizer": [None, "evil/repo--t.Fast"]})
    with pytest.raises(UntrustedCode, match=r"AutoTokenizer: evil/repo--t\.Fast"):
        check_model(model)


def test_a_tokenizer_as_of_2022_names_its_code_without_a_class(model: Path) -> None:
    say(model, "tokenizer_config.json", auto_map=["evil/repo--t.Slow", None])
    with pytest.raises(UntrustedCode, match="AutoTokenizer"):
        check_model(model)


def test_code_is_found_however_deep_it_is_named(model: Path) -> None:
    deep: object = {"auto_map": {"AutoConfig": "evil/repo--c.C"}}
    for _ in range(300):
        deep = {"part": [deep]}
    (model / "generation_config.json").write_text(json.dumps(deep))
    assert [each.name for each in references(model)] == ["evil/repo--c.C"]


def test_a_part_of_a_model_may_not_take_its_code_from_elsewhere(model: Path) -> None:
    say(model, "config.json", text_config={"auto_map": {"AutoConfig": "evil/repo--c.C"}})
    with pytest.raises(UntrustedCode):
        check_model(model)


@given(st.tuples(TEXT, TEXT).map("".join))
def test_what_is_let_through_names_a_file_of_the_directory(name: str) -> None:
    if not leaves(name):
        here = Path("/models/here")
        assert (here / name).is_relative_to(here)
        assert ".." not in (here / name).parts
        assert not {"\\", "\0"} & set(name)


@given(
    st.recursive(
        st.none() | TEXT | st.integers(),
        lambda inner: st.lists(inner) | st.dictionaries(TEXT | st.just("auto_map"), inner),
    )
)
def test_whatever_a_configuration_holds_it_is_read_without_a_traceback(
    tmp_path_factory: pytest.TempPathFactory, document: object
) -> None:
    directory = tmp_path_factory.mktemp("any")
    (directory / "config.json").write_text(json.dumps(document))
    assert all(isinstance(each.name, str) for each in references(directory))


# --- whose it is -----------------------------------------------------------------------------


def test_a_model_without_code_brings_none(model: Path) -> None:
    (model / "convert.py").write_text("a script that nothing names")
    assert foreign_code_of(model) == ()
    assert not brings_only_our_code(model)


def test_the_code_of_an_edit_is_ours(edited: Path) -> None:
    require_code_inside(edited)
    assert foreign_code_of(edited) == ()
    assert brings_only_our_code(edited)


def test_a_byte_more_in_our_code_makes_it_foreign(edited: Path) -> None:
    """The model_type is ours still, and tells nothing."""
    with (edited / "modeling_kawan_usaha.py").open("a") as code:
        code.write("\n")
    assert foreign_code_of(edited) == ("modeling_kawan_usaha.py",)
    assert not brings_only_our_code(edited)


def test_code_that_ours_could_not_have_is_foreign_wherever_it_lies(edited: Path) -> None:
    (edited / "sub").mkdir()
    shutil.copy(edited / "modeling_kawan_usaha.py", edited / "sub")
    (edited / "sub" / "more.py").write_text("")
    assert foreign_code_of(edited) == ("sub/modeling_kawan_usaha.py", "sub/more.py")


def test_a_generation_loop_is_run_though_nothing_names_it(model: Path) -> None:
    (model / "custom_generate").mkdir()
    (model / "custom_generate" / "generate.py").write_text("def generate(model): ...")
    assert foreign_code_of(model) == ("custom_generate/generate.py",)


def test_a_linked_directory_is_no_code_of_ours(edited: Path, tmp_path: Path) -> None:
    (outside := tmp_path / "outside").mkdir()
    (outside / "t.py").write_text("class Fast: ...")
    (edited / "sub").symlink_to(outside)
    say(edited, "tokenizer_config.json", auto_map={"AutoTokenizer": ["sub/t.Fast", None]})
    assert not brings_only_our_code(edited)


def test_code_is_known_of_a_model_of_which_only_the_small_files_are_here(
    edited: Path, tmp_path: Path
) -> None:
    files = digests(edited)
    (small := tmp_path / "small").mkdir()
    for configuration in edited.glob("*config*.json"):
        shutil.copy(configuration, small)
    assert foreign_code(small, files) == ()
    assert foreign_code(small, {**files, "more.py": "0" * 64}) == ("more.py",)


def test_a_configuration_that_is_not_here_may_name_code(model: Path) -> None:
    """A tokenizer's may be larger than what stays of a freed model."""
    files = {**digests(model), "convert.py": "0" * 64}
    assert foreign_code(model, files) == ()
    (model / "tokenizer_config.json").unlink()
    assert foreign_code(model, files) == ("convert.py",)
