"""What MkDocs cannot do alone: pages from outside of docs/, and links that leave it.

The README is the site's first page. A link to a file that is on no page, such as a test, becomes
its text: the site travels without the sources.
"""

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

FROM_THE_ROOT = {
    "README.md": "index.md",
    "data/README.md": "starter-data.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "SECURITY.md": "security-policy.md",
}
"""Pages of the site by the file of the project that holds them."""

_LINK = re.compile(r"(?<!!)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^()\s]+)\)")
_PICTURE = re.compile(r"(!\[[^\]]*\]\(|<img src=\")(?!https?:)([^)\"\s]+)")


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that lie outside of docs/."""
    root = Path(config.config_file_path).parent
    for source, page in FROM_THE_ROOT.items():
        files.append(File.generated(config, page, content=(root / source).read_text()))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Return the text with each link as the site needs it."""
    uri = page.file.src_uri
    source = next((name for name, to in FROM_THE_ROOT.items() if to == uri), f"docs/{uri}")

    def link(found: re.Match[str]) -> str:
        text, target = found.groups()
        if re.match(r"[a-z]+:|#", target):
            return found[0]
        to = _on_site(source, uri, target, files)
        return text if to is None else f"[{text}]({to})"

    def picture(found: re.Match[str]) -> str:
        before, target = found.groups()
        return before + (_on_site(source, uri, target, files) or target)

    return _PICTURE.sub(picture, _outside_of_code(_LINK, link, markdown))


def _outside_of_code(pattern: re.Pattern[str], change: Any, markdown: str) -> str:
    parts = re.split(r"(^```.*?^```)", markdown, flags=re.MULTILINE | re.DOTALL)
    return "".join(part if part.startswith("```") else pattern.sub(change, part) for part in parts)


def _on_site(source: str, uri: str, target: str, files: Files) -> str | None:
    """Return the link from a page of the site, None where the file is on no page."""
    name, mark, heading = target.partition("#")
    path = posixpath.normpath(posixpath.join(posixpath.dirname(source), name))
    to = FROM_THE_ROOT.get(path) or path.removeprefix("docs/")
    is_there = path in FROM_THE_ROOT or path.startswith("docs/")
    if not is_there or files.get_file_from_path(to) is None:
        return None
    return posixpath.relpath(to, posixpath.dirname(uri) or ".") + mark + heading
