"""Captions that are the text of a missing value: `nan`, `None`, `<NA>`, "NaN", `nan, nan`, `[object Object]`.

Programs write missing values as text: NaN of a table, None of Python, NULL of a database; others put quotes, brackets,
punctuation or markup around it, and join several of them; web pages say in words that they have none. A caption that
is nothing else says nothing of its image; as part of a caption the name is a word like any other: garlic nan bread.
"""

from __future__ import annotations

import re

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from vocab.arrays import among
from vocab.word_table import bytes_of

# As pandas, NumPy, Python, JavaScript, R, Ruby, SQL, Hive and Excel write them, in small letters.
NAMES = frozenset(
    "nan -nan nat none null nil na n/a n.a. #n/a #na <na> <nan> <none> <null> (null) [null] undefined \\n "
    "1.#ind -1.#ind 1.#qnan -1.#qnan np.nan numpy.nan pd.na pd.nat float('nan') nan.jpg none.jpg null.jpg "
    "undefined.jpg".split()
) | {
    "object object", "no caption", "no caption available", "no description", "no description available",
    "description not available", "image not available", "no image available", "image unavailable", "image not found",
}  # fmt: skip
# Spaces and signs of no width, quotes, brackets and punctuation around a name.
_SIGN = (
    "\x01-\x20\x7f\u00a0\u200b-\u200f\u2028\u2029\u202f\u2060\u3000\ufeff"
    "\"'`\u00b4\u2018-\u201e\u00ab\u00bb()\\[\\]{}.,;:!?*_|~%=+\\-\u2013\u2014\u2026"
)
_AROUND = rf"(?:[\x00{_SIGN}]|</?[a-zA-Z]{{1,6}} ?/?>|&[a-zA-Z]{{2,6}};)"
_NAME = "(?i:" + "|".join(re.escape(name) for name in sorted(NAMES)) + ")"
# Read alike by Python and by Arrow's RE2.
_MISSING = rf"^{_AROUND}*{_NAME}(?:(?:{_AROUND}|/)+{_NAME})*{_AROUND}*\z"
_COMPILED = re.compile(_MISSING.replace(r"\z", r"\Z"), re.ASCII)
FIRST_BYTES = tuple(
    byte
    for byte in range(256)
    if byte >= 0x80 or re.match(f"[\0<&{_SIGN}]", chr(byte)) or chr(byte).lower() in {name[0] for name in NAMES}
)
"""bytes that such a caption may begin with"""
LONGEST = 32
"""bytes of a caption that may be one, with the signs around"""


def is_missing(caption: str) -> bool:
    """Tell whether the whole caption is the text of missing values, in capitals or not."""
    return len(caption.encode(errors="surrogatepass")) <= LONGEST and _COMPILED.match(caption) is not None


def are_missing(captions: pa.StringArray) -> NDArray[np.bool_]:
    """[captions] `is_missing` of each; false for a null."""
    missing = np.zeros(len(captions), dtype=bool)
    captions = captions.fill_null("") if captions.null_count else captions
    text, starts = bytes_of(captions)
    lengths = np.diff(starts)
    short = np.flatnonzero((lengths > 0) & (lengths <= LONGEST))
    may_be = short.take(np.flatnonzero(among(text.take(starts.take(short)), FIRST_BYTES)))
    if len(may_be):
        missing[may_be] = np.asarray(pc.match_substring_regex(captions.take(pa.array(may_be)), _MISSING))
    return missing


def without_missing(captions: pa.StringArray) -> pa.StringArray:
    """The captions, null where they are missing."""
    missing = are_missing(captions)
    if not missing.any():
        return captions
    return pc.if_else(pa.array(missing), pa.scalar(None, captions.type), captions)
