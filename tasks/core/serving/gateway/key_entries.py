"""The entries of API keys, read from a file or from the environment.

The file is YAML or JSON, a list of entries; a key is given as it is, or as its SHA-256:

    - name: backend
      key_sha256: 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
      requests_at_once: 8
      requests_per_minute: 120
      answer_tokens: 1024
    - name: rina
      key: at-least-16-characters
      reviewer: true

KAWAN_USAHA_API_KEYS holds keys without limits, and none of a reviewer: `name:key` or only `key`,
separated by commas. The invariant: no message contains a key.
"""

import hashlib
import os
import stat
from pathlib import Path
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from tasks.core.errors import UsageError
from tasks.core.files.yaml_text import NotYaml, read_yaml
from tasks.core.serving.client.key_variables import API_KEYS_VARIABLE

_SHORTEST = 16
_MAX_BYTES = 1 << 20  # some ten thousand keys
_AtLeastOne = Annotated[int, Field(ge=1)]


class KeyEntry(BaseModel):
    """One key: who has it, and how much this client may ask."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    name: str = Field(pattern=r"^[\w.-]{1,64}$")
    key: str | None = Field(None, min_length=_SHORTEST, repr=False)
    key_sha256: str | None = Field(None, pattern=r"^[0-9a-fA-F]{64}$", repr=False)
    requests_at_once: _AtLeastOne | None = None
    requests_per_minute: _AtLeastOne | None = None
    answer_tokens: _AtLeastOne | None = None
    reviewer: bool = False

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.key is None) == (self.key_sha256 is None):
            raise ValueError("exactly one of key and key_sha256 must be given")
        return self

    def digest(self) -> bytes:
        """Return the SHA-256 of the key."""
        if self.key is not None:
            return hashlib.sha256(self.key.encode()).digest()
        return bytes.fromhex(self.key_sha256 or "")


def entries_of_environment(text: str) -> list[KeyEntry]:
    """Parse the value of KAWAN_USAHA_API_KEYS. Raises UsageError."""
    entries = []
    for place, part in enumerate(filter(None, map(str.strip, text.split(","))), start=1):
        name, _, key = part.rpartition(":")
        try:
            entries.append(KeyEntry.model_validate({"name": name or f"key-{place}", "key": key}))
        except ValidationError as error:
            raise unusable_keys(f"{API_KEYS_VARIABLE}, key {place}", _first(error)) from None
    return entries


def entries_of_file(file: Path) -> list[KeyEntry]:
    """Read a file of keys, which only its owner may read. Raises UsageError."""
    try:
        with file.open("rb") as opened:
            mode = os.fstat(opened.fileno()).st_mode
            if stat.S_IMODE(mode) & 0o077:
                raise unusable_keys(
                    file,
                    f"mode {stat.S_IMODE(mode):04o}: others may read or write it",
                    next_step=f"chmod 600 {file}",
                )
            text = opened.read(_MAX_BYTES + 1).decode("utf-8-sig")
        content, repeated = read_yaml(text, max_characters=_MAX_BYTES)
        if repeated:  # without its name, which may be a misplaced key
            raise unusable_keys(file, "a field that stands twice in an entry")
        return TypeAdapter(list[KeyEntry]).validate_python(content)
    except OSError as error:
        raise unusable_keys(file, error.strerror) from None
    except (NotYaml, UnicodeDecodeError):  # their messages quote the file
        raise unusable_keys(file, "neither YAML nor JSON") from None
    except ValidationError as error:
        raise unusable_keys(file, _first(error)) from None


def unusable_keys(where: object, found: object, next_step: str | None = None) -> UsageError:
    """Return the error for keys that cannot be used."""
    return UsageError(
        "The API keys cannot be used.",
        where=where,
        expected=f"a list of entries with name and key (of {_SHORTEST} characters or more) or "
        "key_sha256, in a file of mode 0600",
        found=found,
        next_step=next_step or "docs/gateway.md shows such a file.",
    )


def _first(error: ValidationError) -> str:
    """Return the first fault, without the value, which may be a key."""
    fault = error.errors(include_input=False, include_url=False, include_context=False)[0]
    return f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}".lstrip(": ")
