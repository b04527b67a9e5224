"""Sealed JSON: an object that holds the sha256 of its other fields, so that a changed byte is noticed when it is read.

    {"step": 100, "loss": 12.3, "own_sha256": "9f86d081..."}

The checksum is of the values, not of the text: indentation and the order of fields are free. A text without a seal is
accepted, because people write such files by hand.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

from vocab.errors import FormatError

SEAL = "own_sha256"
SHA256 = re.compile("[0-9a-f]{64}")
LINE_END = re.compile(rb'"own_sha256": "[0-9a-f]{64}"\}.', re.DOTALL)


def digest_of(value: object) -> str:
    """sha256 of a JSON value, the same for every text of it; the seal of an object is left out."""
    rest = {name: each for name, each in value.items() if name != SEAL} if isinstance(value, dict) else value
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def sealed(body: Mapping[str, Any]) -> dict[str, Any]:
    """An object as JSON holds it (lists for tuples, texts for keys), with its seal."""
    plain: dict[str, Any] = json.loads(json.dumps({name: value for name, value in body.items() if name != SEAL}))
    return {**plain, SEAL: digest_of(plain)}


def to_sealed_json(body: Mapping[str, Any], *, indent: int | None = None, ensure_ascii: bool = True) -> str:
    """The text of a sealed object, with a line end."""
    return json.dumps(sealed(body), indent=indent, ensure_ascii=ensure_ascii) + "\n"


def from_sealed_json(location: object, text: str | bytes) -> Any:
    """The value of a text; of an object, the fields beside its seal.

    Raises ValueError for a text that is not JSON, and FormatError for an object that does not match its seal.
    """
    try:
        return without_seal(location, json.loads(text))
    except RecursionError as error:
        raise ValueError("brackets in too many brackets") from error


def whole_lines(location: object, content: bytes) -> list[bytes]:
    """The lines of a file to which sealed objects are appended, without a last one that a kill cut short.

    Raises FormatError for a last line that lacks nothing but its line end: a kill does not leave that.
    """
    *whole, rest = content.split(b"\n")
    if LINE_END.fullmatch(rest[-len(b'"own_sha256": ""}.') - 64 :]):
        raise _altered(f"{location}, line {len(whole) + 1}")
    return whole


def without_seal(location: object, value: Any) -> Any:
    """The fields of an object beside its seal. Raises FormatError where the two do not match."""
    if not isinstance(value, dict) or not value:
        return value
    last = next(reversed(value.values()))
    # A checksum at the end under another name is a seal whose own name was damaged.
    damaged_name = SEAL not in value and isinstance(last, str) and SHA256.fullmatch(last) is not None
    if damaged_name or (SEAL in value and value[SEAL] != digest_of(value)):
        raise _altered(location)
    return {name: each for name, each in value.items() if name != SEAL}


def _altered(location: object) -> FormatError:
    return FormatError(
        location,
        found="content that does not match its checksum",
        wanted=f"the content whose sha256 is its {SEAL}",
        remedy=f"Copy it again from where it is whole; if it was changed on purpose, remove its field {SEAL}.",
    )
