"""Captions that are the text of a missing value: `nan`, `None`, `<NA>`.

Programs write missing values as text: NaN of a table, None of Python, NULL of a database. A caption that is nothing but
such a name says nothing of its image; as part of a caption the name is a word like any other, as in garlic nan bread.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

# As pandas, NumPy, Python, JavaScript, R, Ruby, SQL, Hive and Excel write them, in small letters.
NAMES = frozenset(
    "nan -nan nat none null nil na n/a n.a. #n/a #na <na> <nan> <none> <null> (null) [null] undefined \\n "
    "1.#ind -1.#ind 1.#qnan -1.#qnan".split()
)
SPACES = " \t\n\v\f\r"
LONGEST = 2 * max(map(len, NAMES))
"""bytes of a caption that may be one, with the spaces around"""


def is_missing(caption: str) -> bool:
    """Tell whether the whole caption is the text of a missing value, in capitals or not."""
    return len(caption.encode(errors="surrogatepass")) <= LONGEST and caption.strip(SPACES).lower() in NAMES


def are_missing(captions: pa.StringArray) -> NDArray[np.bool_]:
    """[captions] `is_missing` of each; false for a null."""
    missing = np.zeros(len(captions), dtype=bool)
    short = np.flatnonzero(np.asarray(pc.fill_null(pc.binary_length(captions), LONGEST + 1)) <= LONGEST)
    if len(short):
        names = pc.ascii_lower(pc.ascii_trim_whitespace(captions.take(pa.array(short))))
        missing[short] = np.asarray(pc.is_in(names, value_set=pa.array(sorted(NAMES), names.type)))
    return missing


def without_missing(captions: pa.StringArray) -> pa.StringArray:
    """The captions, null where they are missing."""
    missing = are_missing(captions)
    if not missing.any():
        return captions
    return pc.if_else(pa.array(missing), pa.scalar(None, captions.type), captions)
