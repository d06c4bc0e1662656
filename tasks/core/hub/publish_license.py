"""What the licence of the weights forbids, and whether the recipe has accepted it in words.

Pure: knows names of repositories and of licences, asks nobody. It covers LLaMA 1 and what was made
from it, and the Creative Commons licences that forbid commercial use. It is no legal advice, and it
cannot recognise weights whose origin the recipe does not name.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from tasks.core.errors import RecipeError

ACCEPTANCE = (
    "I may publish these weights and I say to whoever takes them that they are for "
    "non-commercial research only"
)
"""The sentence that `publish.accept_license` must hold before such weights become public."""

# LLaMA 1 came in 7, 13, 30 (also called 33) and 65 billion parameters; Llama 2 and later carry
# their number before the size. Vicuna was made from LLaMA 1 up to v1.3 and from Llama 2 from v1.5.
_LLAMA_1 = re.compile(
    r"(?:^|/)(?:llama-?(?:7|13|30|33|65)b|vicuna-(?:7|13|33)b-(?:delta-)?v(?:0|1\.[013])\b)", re.I
)
_NON_COMMERCIAL = re.compile(r"^(?:cc-by-nc\b|llama-1\b|fair-noncommercial)", re.I)


@dataclass(frozen=True)
class Terms:
    """A licence that forbids commercial use, in the Hub's words and in the reader's."""

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
    """Return the terms that forbid commercial use, or None when none are recognised.

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
    """Raise RecipeError when the card would name a freer licence than the weights have."""
    if terms is LLAMA_1_TERMS and license_id != "other":
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


def _plain(sentence: str) -> str:
    return " ".join(sentence.lower().rstrip(". ").split())
