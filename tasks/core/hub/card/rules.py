"""The Hub's rules for the metadata of a model card, as far as they can be checked offline.

The Hub checks a card when README.md is committed, which is after the weights were sent. These are
its published rules, so that a wrong card is refused first. Covers required fields, closed lists and
patterns; only the Hub knows whether a base model or a metric exists.
"""

import math
import re
from collections.abc import Iterator

from huggingface_hub import ModelCard, ModelCardData
from huggingface_hub.errors import HFValidationError
from yaml import YAMLError

from tasks.core.errors import RecipeError
from tasks.core.hub.private_api import REGEX_YAML_BLOCK, validate_repo_id

LICENSES = frozenset(
    """
    afl-3.0 agpl-3.0 apache-2.0 apple-amlr apple-ascl artistic-2.0 bigcode-openrail-m
    bigscience-bloom-rail-1.0 bigscience-openrail-m bsd bsd-2-clause bsd-3-clause
    bsd-3-clause-clear bsl-1.0 c-uda cc cc-by-2.0 cc-by-2.5 cc-by-3.0 cc-by-4.0 cc-by-nc-2.0
    cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nc-nd-3.0 cc-by-nc-nd-4.0 cc-by-nc-sa-2.0 cc-by-nc-sa-3.0
    cc-by-nc-sa-4.0 cc-by-nd-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc0-1.0 cdla-permissive-1.0
    cdla-permissive-2.0 cdla-sharing-1.0 creativeml-openrail-m deepfloyd-if-license ecl-2.0
    epl-1.0 epl-2.0 etalab-2.0 eupl-1.1 eupl-1.2 fair-noncommercial-research-license gemma gfdl
    gpl gpl-2.0 gpl-3.0 grok2-community h-research intel-research isc lgpl lgpl-2.1 lgpl-3.0
    lgpl-lr llama2 llama3 llama3.1 llama3.2 llama3.3 llama4 lppl-1.3c mit mpl-2.0 ms-pl ncsa
    odbl odc-by ofl-1.1 openmdw-1.0 openrail openrail++ osl-3.0 other pddl postgresql unknown
    unlicense wtfpl zlib
    """.split()  # noqa: SIM905  eighty names are read and compared more easily as a paragraph
)
"""Source: https://huggingface.co/docs/hub/repositories-licenses. No library carries this list
(`docs/decisions/0001-dependencies.md`)."""

_LANGUAGE = re.compile(r"^(?:[a-z]{2,3}|code|multilingual)$")
_LICENSE_NAME = re.compile(r"^[a-z0-9.-]+$")
_LICENSE_LINK = re.compile(r"^(?:LICENSE(?:\.md)?|https?://\S+)$")
_DATASET_TYPE = re.compile(r"^(?:[\w-]+/)?[\w.-]+$")
_REQUIRED = ("language", "license", "library_name", "pipeline_tag")


def card_data(text: str) -> ModelCardData:
    """Return the metadata of a card's text.

    Raises RecipeError when it has none, or none that can be read as metadata of a model.
    """
    if not REGEX_YAML_BLOCK.search(text):
        raise _broken("it does not begin with a metadata block between two lines of ---")
    try:
        data = ModelCard(text).data
    except (ValueError, YAMLError) as error:
        raise _broken(str(error)) from error
    if not isinstance(data, ModelCardData):
        raise _broken("its metadata is not that of a model")
    return data


def require_valid_card(text: str) -> None:
    """Raise RecipeError with every rule that the card breaks, if it breaks any."""
    complaints = list(_complaints(card_data(text)))
    if complaints:
        raise _broken("; ".join(complaints))


def _broken(found: str) -> RecipeError:
    return RecipeError(
        "The Hub rejected the model card.",
        where="README.md",
        found=found,
        next_step="Correct `publish.language`, `publish.license` or the recipe's name; the rules "
        "are at https://huggingface.co/docs/hub/model-cards.",
    )


def _complaints(data: ModelCardData) -> Iterator[str]:
    for field in _REQUIRED:
        if not data.get(field):
            yield f"{field} is missing"
    for language in _listed(data.language):
        if not _LANGUAGE.match(language):
            yield f"language {language!r} is no ISO 639 code of two or three letters"
    for tag in _listed(data.tags):
        if not tag.strip():
            yield f"tag {tag!r} is not a word"
    yield from _license_complaints(data)
    yield from _origin_complaints(data)
    yield from _figure_complaints(data)


def _license_complaints(data: ModelCardData) -> Iterator[str]:
    for license_id in _listed(data.license):
        if license_id not in LICENSES:
            yield f"license {license_id!r} is not in the Hub's list; use `other` with a name"
    if data.license_name is not None and not _LICENSE_NAME.match(data.license_name):
        yield f"license_name {data.license_name!r} is not lower case with dashes"
    if data.license_link is not None and not _LICENSE_LINK.match(data.license_link):
        yield f"license_link {data.license_link!r} is neither a URL nor LICENSE"


def _origin_complaints(data: ModelCardData) -> Iterator[str]:
    for repo in _listed(data.base_model):
        try:
            validate_repo_id(repo)
        except HFValidationError as error:
            yield f"base_model: {error}"


def _figure_complaints(data: ModelCardData) -> Iterator[str]:
    if data.eval_results and not data.model_name:
        yield "model_name is missing"
    for result in data.eval_results or ():
        if not _DATASET_TYPE.match(result.dataset_type):
            yield f"data id {result.dataset_type!r} is not a name of letters, digits, - . _"
        if not isinstance(result.metric_value, int | float) or not math.isfinite(
            result.metric_value
        ):
            yield f"{result.metric_type} is {result.metric_value!r}, which is no number"


def _listed(value: object) -> list[str]:
    if value is None:
        return []
    return [str(item) for item in value] if isinstance(value, list) else [str(value)]
