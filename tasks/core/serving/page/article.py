"""From a conversation to an article, in the steps and words of the Kawan Usaha backend of 2023.

A summary, three titles as JSON, the article for one title. Pure: the prompts, and parsing the
answers. The invariant: `read_titles` returns what was asked for, three titles.
"""

import json
import re
from collections.abc import Sequence
from typing import Literal

from tasks.core.serving.client.turns import ChatMessage

TITLES = 3
_SPEAKERS: dict[str, Literal["user", "assistant"]] = {
    "pengguna": "user",
    "kawan usaha": "assistant",
}
_SPEAKER = re.compile(r"^(Pengguna|Kawan Usaha)\s*:\s*", re.IGNORECASE)
_FORM = '{"article": ["judul_1", "judul_2", "judul_3"]}'
_IN_BRACKETS = re.compile(r"\[.*?\]", re.DOTALL)
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)+)"')
_LISTED = re.compile(r"^\s*(?:\d+\s*[.)]|[-*•])\s*(.+)$", re.MULTILINE)
_LONGEST_TITLE = 200


class NotTitles(ValueError):
    """An answer that is not what was asked for; the text tells the model why."""


def written_down(messages: Sequence[ChatMessage]) -> str:
    """Return a conversation as text for a person to read and edit."""
    names: dict[str, str] = {role: name.title() for name, role in _SPEAKERS.items()}
    spoken = [each for each in messages if each["role"] in names]
    return "\n\n".join(f"{names[each['role']]}: {each['content'].strip()}" for each in spoken)


def read_conversation(text: str) -> list[ChatMessage]:
    """Return the messages of a text from `written_down`, of a JSON list, or one user message."""
    return _from_json(text) or _from_lines(text)


def summary_prompt(conversation: Sequence[ChatMessage]) -> str:
    """Return the prompt for the summary."""
    said = json.dumps(list(conversation), ensure_ascii=False)
    return (
        f'Menggunakan kalimat berikut "{said}", '
        "Buatlah kesimpulan percakapan tersebut dalam satu kalimat."
    )


def titles_prompt(summary: str) -> str:
    """Return the prompt for the titles."""
    return (
        f'Berdasarkan kalimat "{summary.strip()}", buatlah 3 judul artikel yang relevan untuk '
        f"pengguna. Jangan jelaskan apa pun dan gunakan format JSON ini: {_FORM}"
    )


def article_prompt(title: str) -> str:
    """Return the prompt for the article."""
    return (
        f'Tulis artikel dengan judul "{title.strip()}". '
        "Pastikan artikelnya asli, akurat, dan sesuai dengan judul."
    )


def correcting(prompt: str, answer: str, fault: NotTitles) -> list[ChatMessage]:
    """Return the messages that ask again and name the fault."""
    again = f"Jawaban itu belum sesuai: {fault}. Jawab hanya dengan format JSON ini: {_FORM}"
    return [
        {"role": "user", "content": prompt},
        {"role": "assistant", "content": answer},
        {"role": "user", "content": again},
    ]


def read_titles(answer: str) -> list[str]:
    """Return the three titles of an answer in the requested form. Raises NotTitles."""
    try:
        content = json.loads(answer)
    except ValueError as error:
        raise NotTitles("bukan JSON yang benar") from error
    titles = content.get("article") if isinstance(content, dict) else None
    if not isinstance(titles, list):
        raise NotTitles('tidak ada daftar dengan kunci "article"')
    if not all(isinstance(title, str) and title.strip() for title in titles):
        raise NotTitles("ada judul yang kosong atau bukan teks")
    if len(titles) != TITLES:
        raise NotTitles(f"ada {len(titles)} judul, bukan {TITLES}")
    return [title.strip() for title in titles]


def find_titles(answer: str) -> list[str]:
    """Return up to three titles that an answer contains in any form."""
    listed = [line.strip().strip("\"'*,") for line in _LISTED.findall(answer)]
    for found in (_in_brackets(answer), listed, _QUOTED.findall(answer)):
        titles = [title.strip() for title in found if title.strip() not in ("", "article")]
        if titles := [title for title in titles if len(title) <= _LONGEST_TITLE]:
            return list(dict.fromkeys(titles))[:TITLES]
    return []


def _in_brackets(answer: str) -> list[str]:
    for brackets in _IN_BRACKETS.findall(answer):
        try:
            content = json.loads(brackets)
        except ValueError:
            content = _QUOTED.findall(brackets)
        if titles := [each for each in content if isinstance(each, str)]:
            return titles
    return []


def _from_json(text: str) -> list[ChatMessage]:
    try:
        content = json.loads(text)
    except ValueError:
        return []
    match content:
        case [{"role": str(), "content": str()}, *_]:
            return [
                {"role": each["role"], "content": each["content"]}
                for each in content
                if isinstance(each, dict)
                and each.get("role") in _SPEAKERS.values()
                and isinstance(each.get("content"), str)
            ]
    return []


def _from_lines(text: str) -> list[ChatMessage]:
    messages: list[ChatMessage] = []
    for line in text.strip().splitlines():
        speaker = _SPEAKER.match(line)
        if speaker:
            role = _SPEAKERS[speaker[1].lower()]
            messages.append({"role": role, "content": line[speaker.end() :]})
        elif messages:
            messages[-1]["content"] += f"\n{line}"
        else:
            messages.append({"role": "user", "content": line})
    return [
        {"role": each["role"], "content": each["content"].strip()}
        for each in messages
        if each["content"].strip()
    ]
