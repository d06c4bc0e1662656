"""The report pages of `learn`, and the removal of those that quote deleted answers.

A page shows questions that people asked, so it is removed together with the reviewed set that it is
about: because an answer was deleted, or by `prune`.
"""

import re
from pathlib import Path

from tasks.core.files.listing import matching
from tasks.core.store import Store

_SUFFIX = "-learned.html"
_SET = re.compile(rb'<meta name="reviewed-set" content="([a-z]+-[0-9a-f]{20})">')
_HEAD_BYTES = 1 << 12


def report_page(home: Path, recipe: str) -> Path:
    """Return the path of the page about a recipe's last run of `learn`."""
    return home / "reports" / f"{recipe}{_SUFFIX}"


def remove_stale_pages(home: Path) -> tuple[Path, ...]:
    """Remove the pages whose reviewed set is not in the store, and return them. Raises OSError.

    A page that does not name its reviewed set is removed too.
    """
    whole = {path.name for path in Store(home).contents()["artifact"]}
    stale = [p for p in matching(home / "reports", f"*{_SUFFIX}") if _set_of(p) not in whole]
    for path in stale:
        path.unlink(missing_ok=True)
    return tuple(stale)


def _set_of(page: Path) -> str | None:
    with page.open("rb") as file:
        found = _SET.search(file.read(_HEAD_BYTES))
    return None if found is None else found[1].decode()
