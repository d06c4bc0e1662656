"""What the licence of the weights forbids, and whether the recipe has accepted it explicitly.

Pure: decides by the names of repositories and licences alone. It covers LLaMA 1 and its
derivatives, the Creative Commons licences that forbid commercial use, and weights of unknown
origin. It is not legal advice.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from tasks.core.errors import RecipeError
from tasks.core.hub.card.rules import card_data
from tasks.core.hub.publish.origin import WeightsOrigin
from tasks.core.recipe import Publish

ACCEPTANCE = (
    "I may publish these weights and I say to whoever takes them that they are for "
    "non-commercial research only"
)
"""The sentence that `publish.accept_license` must hold before such weights become public."""

ANSWER_FOR_ORIGIN = "I know where these weights come from and I may publish them under this licence"
"""The sentence that `publish.accept_license` must hold before weights become public whose files do
not state their origin, or state another licence. The one above is accepted in the first case,
too."""

# LLaMA 1 came in 7, 13, 30 (also called 33) and 65 billion parameters, from Meta as LLaMA/13B;
# Llama 2 and later carry their number before the size. Vicuna was made from LLaMA 1 up to v1.3 and
# from Llama 2 from v1.5. OpenLLaMA and Code Llama are others, hence the beginning of a word.
_LLAMA_1 = re.compile(
    r"(?:^|/)(?:llama[-_/]?(?:v?1[-_])?(?:7|13|30|33|65)b(?![a-z0-9])"
    r"|vicuna[-_](?:7|13|33)b[-_](?:delta[-_])?v?(?:0|1\.[013])(?![.\d]))",
    re.I,
)
_NON_COMMERCIAL = re.compile(r"^(?:cc-by-nc\b|llama-1\b|fair-noncommercial)", re.I)


@dataclass(frozen=True)
class Terms:
    """A licence that forbids commercial use: the Hub's identifier, and what it means."""

    license_name: str
    license_link: str | None
    consequence: str


LLAMA_1_TERMS = Terms(
    license_name="llama-1-non-commercial",
    license_link="https://github.com/meta-llama/llama/blob/llama_v1/MODEL_CARD.md",
    consequence="These weights are made from LLaMA 1. Meta gave LLaMA 1 out under a "
    "non-commercial licence of its own, case by case: the weights are for research only, may not "
    "serve a business, and whoever receives them needs Meta's permission too. A delta, an edit or "
    "a fine-tune does not change that.",
)


def non_commercial_terms(names: Iterable[str], licenses: Iterable[str]) -> Terms | None:
    """Return the terms that forbid commercial use, None when none are recognized.

    names are repositories or directories that the weights come from; licenses are identifiers as
    the Hub writes them.
    """
    if any(_LLAMA_1.search(name) for name in names):
        return LLAMA_1_TERMS
    for name in licenses:
        if name == LLAMA_1_TERMS.license_name:
            return LLAMA_1_TERMS
        if _NON_COMMERCIAL.match(name):
            return Terms(name, None, f"The licence {name} forbids commercial use.")
    return None


def require_honest_license(terms: Terms | None, license_id: str) -> None:
    """Raise RecipeError when the card would name a freer licence than that of the weights."""
    if terms is not None and license_id not in ("other", terms.license_name):
        raise RecipeError(
            "The recipe names a licence that the weights do not have.",
            where="publish.license",
            expected=f"other (named {terms.license_name} in the card)",
            found=license_id,
            next_step=terms.consequence + " Write `license: other`.",
        )


def require_acceptance(terms: Terms | None, *, private: bool, accepted: str | None) -> None:
    """Raise RecipeError when weights under such terms would become public without the sentence."""
    if terms is None or private or _plain(accepted or "") == _plain(ACCEPTANCE):
        return
    raise RecipeError(
        "The weights are for non-commercial use only, and the recipe would make them public.",
        where="publish.private",
        expected=f'publish.private: true, or publish.accept_license: "{ACCEPTANCE}"',
        found=f"publish.private: false, publish.accept_license: {accepted!r}",
        next_step=f"{terms.consequence} Keep the repository private, or write the sentence above "
        "into the recipe if it is true.",
    )


def require_card_terms(card: str, target: Publish) -> None:
    """Raise RecipeError when the card itself forbids making the model public."""
    data = card_data(card)
    bases = data.base_model if isinstance(data.base_model, list) else [data.base_model or ""]
    terms = non_commercial_terms(bases, [str(data.license), data.license_name or ""])
    require_acceptance(terms, private=target.private, accepted=target.accept_license)


def require_publishable(origin: WeightsOrigin, target: Publish) -> None:
    """Raise RecipeError when what is known of the weights' origin forbids making them public.

    An unknown origin, and a licence other than that of the model's own card, need a sentence in the
    recipe; a non-commercial licence needs one of its own.
    """
    if target.private:
        return
    terms = non_commercial_terms(origin.names, origin.licenses)
    require_honest_license(terms, target.license)
    require_acceptance(terms, private=target.private, accepted=target.accept_license)
    if _plain(target.accept_license or "") in (_plain(ANSWER_FOR_ORIGIN), _plain(ACCEPTANCE)):
        return
    own = {name for name in origin.licenses if name.lower() not in ("other", "unknown")}
    if own and target.license not in {"other", *own}:
        raise RecipeError(
            "The recipe names another licence than the model's own card.",
            where="publish.license",
            expected=f"{' or '.join(sorted(own))}, or other",
            found=target.license,
            next_step="Write the licence that the model came with. If its owner gave you another "
            f'one, say so: publish.accept_license: "{ANSWER_FOR_ORIGIN}".',
        )
    if not origin.is_known:
        raise RecipeError(
            "Nothing says where the weights come from, and the recipe would make them public.",
            where="publish.private",
            expected=f'publish.private: true, or publish.accept_license: "{ANSWER_FOR_ORIGIN}"',
            found=f"publish.private: false, publish.accept_license: {target.accept_license!r}",
            next_step=_unknown_advice(origin),
        )


def _unknown_advice(origin: WeightsOrigin) -> str:
    llama = (
        "The architecture is LLaMA's, and weights made from LLaMA 1 are non-commercial. "
        if origin.is_llama
        else ""
    )
    return (
        f"{llama}Name what the model was made from in its README.md (`license` and `base_model` of "
        "the metadata), keep the repository private, or give the sentence above if it is true "
        "(on the command line: `--accept-license`)."
    )


def _plain(sentence: str) -> str:
    return " ".join(sentence.lower().rstrip(". ").split())
