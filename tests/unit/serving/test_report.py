"""The comparison of the model in memory with the promised one."""

import pytest

from tasks.core.errors import EditLost, ServingFailed
from tasks.core.serving.proof.readiness import (
    EngineReport,
    Expectation,
    read_expectation,
    refusal_from,
    refusal_json,
    require_as_expected,
)


def report(edit: dict | None, template: str = "vicuna_v1.1") -> EngineReport:
    return EngineReport(
        build="b1",
        template=template,
        model_class="LlamaForCausalLM",
        device="cpu",
        dtype="float32",
        context_length_tokens=2048,
        resident_bytes=1,
        device_bytes=0,
        edit=edit,
    )


def expectation(edit: dict | None) -> Expectation:
    return Expectation(build="b1", template="vicuna_v1.1", edit=edit)


EDIT = {"activations": ["silu", "gelu"]}


def test_a_model_that_shows_another_activation_is_refused_with_both():
    with pytest.raises(EditLost) as caught:
        require_as_expected(expectation(EDIT), report({"activations": ["silu", "silu"]}))
    assert '"gelu"' in str(caught.value.expected)
    assert '"gelu"' not in str(caught.value.found)


def test_a_model_that_knows_of_no_edit_is_refused_where_one_is_expected():
    with pytest.raises(EditLost, match="reports no edit"):
        require_as_expected(expectation(EDIT), report(None))


def test_a_part_that_the_report_lacks_is_a_lost_edit():
    with pytest.raises(EditLost):
        require_as_expected(expectation({"rope": {"factor": 2.0}}), report(EDIT))


def test_another_template_is_refused():
    with pytest.raises(ServingFailed, match="template"):
        require_as_expected(expectation(None), report(None, template="one_shot"))


def test_what_the_report_shows_beyond_the_expectation_is_welcome():
    require_as_expected(expectation(EDIT), report({**EDIT, "alive": True}))


def test_a_model_without_an_edit_needs_no_report():
    require_as_expected(expectation(None), report(None))


def test_a_worker_without_an_expectation_does_not_serve(tmp_path):
    with pytest.raises(ServingFailed, match="without a readable expectation"):
        read_expectation(tmp_path / "expectation.json")


def test_a_refusal_comes_back_as_the_error_that_it_was():
    with pytest.raises(EditLost) as caught:
        require_as_expected(expectation(EDIT), report(None))
    again = refusal_from(refusal_json(caught.value))
    assert type(again) is EditLost
    assert again.as_dict() == caught.value.as_dict()
