"""Turning gradio's page into Indonesian before it is sent.

gradio chooses the language of its own words ("loading", "copy") by the browser's, which an inline
script overrides; there is no setting for it. The URLs of its makers, for previews in social
networks, are removed.
"""

import re

_HTML = re.compile(rb'<html\s+lang="en"')
_HEAD = b"<head>"
_ADDRESSES = re.compile(rb"<meta\s+(?:property|name)=\"(?:og|twitter):[^>]*>\s*")
_SPEAK_INDONESIAN = (
    b"<head><script>for (const [name, value] of [['language', 'id'], ['languages', ['id']]])"
    b" Object.defineProperty(navigator, name, {get: () => value});</script>"
)


def indonesian(html: bytes) -> bytes:
    """Return the page in Indonesian. Raises ValueError for one that is not gradio's."""
    html, languages = _HTML.subn(b'<html lang="id"', html, count=1)
    if not languages or html.count(_HEAD) != 1:
        raise ValueError("gradio's page differs from that of the version in the lock file")
    return _ADDRESSES.sub(b"", html.replace(_HEAD, _SPEAK_INDONESIAN, 1))
