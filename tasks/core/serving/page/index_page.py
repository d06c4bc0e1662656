"""gradio's page, made Indonesian before it is sent.

gradio takes its own words ("loading", "copy") from the browser's language, of which the page has a
single line to read, and Indonesian among its languages. Nothing else tells it. The addresses of its
makers, for the previews of social networks, go.
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
        raise ValueError("gradio's page is another one than that of the version in the lock")
    return _ADDRESSES.sub(b"", html.replace(_HEAD, _SPEAK_INDONESIAN, 1))
