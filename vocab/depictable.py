"""The mark of synsets that a picture can show: one bit for each of WordNet's nouns.

    dog.n.01, beach.n.01, wedding.n.01, sunset.n.02      true
    price.n.02, day.n.01, quality.n.01, photograph.n.01  false

In: the packed file `vocab/data/depictable.npz`, which `python -m vocab mark-depictable` makes from rules written by
hand (`vocab/fit/depictable.txt`). Out: an array over the rows of `WordNet`.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from vocab import packing, wordnet
from vocab.errors import FormatError
from vocab.packing import Kind
from vocab.taxonomy import rows_of

PACKED = Kind(
    file="depictable.npz",
    version=1,
    holds="the mark of synsets that a picture can show",
    made_by="python -m vocab mark-depictable",
)


@cache
def load() -> NDArray[np.bool_]:
    """[S] marks by row, read once per process; read-only.

    Raises FormatError if the file is missing, or is not the version or the length that this code reads.
    """
    tables, _ = packing.unpack(PACKED, packing.read(PACKED))
    wanted = len(wordnet.load().synsets)
    if tables["synsets"].tolist() != [wanted]:
        raise FormatError(
            PACKED.file,
            found=f"marks of {tables['synsets'].tolist()} synsets",
            wanted=f"marks of {wanted:,}",
            remedy=f"Run: {PACKED.made_by}",
        )
    marks: NDArray[np.bool_] = np.unpackbits(tables["bits"], count=wanted).astype(bool)
    marks.flags.writeable = False
    return marks


def are_depictable(synsets: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Marks of synset offsets, in the same order. Raises InputError for an offset that WordNet 3.0 does not have."""
    marks: NDArray[np.bool_] = load()[rows_of(wordnet.load(), synsets)]
    return marks


def pack(marks: NDArray[np.bool_]) -> bytes:
    """The packed file's bytes. `marks`: [S], by row."""
    tables = {"bits": np.packbits(marks), "synsets": np.array([len(marks)], dtype=np.int32)}
    return packing.pack(PACKED, tables, {"rules": "vocab/fit/depictable.txt", "licence": "LICENSE.wordnet"})
