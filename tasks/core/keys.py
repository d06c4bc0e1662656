"""Stage keys: the identity of an artifact before it is made.

A key is the SHA-256 of canonical JSON over the stage's name, its VERSION, its own part of the
recipe and the digests of its inputs. A value without a stable identity (a set, a non-finite float,
an arbitrary object) is refused: two runs would silently not find each other's work.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import BaseModel, JsonValue


def to_jsonable(value: object, *, at: str = "$") -> JsonValue:
    """Return value as plain JSON types.

    Raises TypeError for a value without a stable identity, with its path from `at`.
    """
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise TypeError(f"{at}: {value} has no stable identity in a key")
        return value
    if isinstance(value, BaseModel):
        return to_jsonable(value.model_dump(mode="json"), at=at)
    if isinstance(value, list | tuple):
        return [to_jsonable(item, at=f"{at}[{i}]") for i, item in enumerate(value)]
    if isinstance(value, Mapping):
        for name in value:
            if not isinstance(name, str):
                raise TypeError(f"{at}: a key of type {type(name).__name__} is not a string")
        return {name: to_jsonable(item, at=f"{at}.{name}") for name, item in value.items()}
    raise TypeError(f"{at}: {type(value).__name__} has no stable identity in a key")


def canonical_json(value: object) -> bytes:
    """Return the canonical JSON encoding of value: sorted names, no spaces, UTF-8."""
    plain = to_jsonable(value)
    return json.dumps(
        plain, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    ).encode()


def digest(value: object) -> str:
    """Return the SHA-256 of canonical_json(value), as 64 hexadecimal digits."""
    return hashlib.sha256(canonical_json(value)).hexdigest()


@dataclass(frozen=True)
class StageKey:
    """The identity of a stage's artifact: the stage, and a digest of everything that decides it."""

    stage: str
    digest: str

    def __str__(self) -> str:
        return f"{self.stage}-{self.digest[:20]}"


def stage_key(
    stage: str, version: int, params: object, inputs: Mapping[str, str] | None = None
) -> StageKey:
    """Return the key of one stage.

    params is the stage's part of the recipe and nothing else; inputs maps the role of each input
    artifact to its content digest. The version is raised whenever the stage's code changes its
    output.
    """
    parts = {"stage": stage, "version": version, "params": params, "inputs": dict(inputs or {})}
    return StageKey(stage, digest(parts))
