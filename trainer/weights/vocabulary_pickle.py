"""The vocabulary released with CatLIP: a pickle of synsets and counts, read without unpickling it.

In: a .pkl file of {"n5928118": 52418327, "n13333833": 46393897, ...}, the most frequent first. Out: a `Vocabulary`.

A key is the part of speech and the offset in WordNet 3.0, not zero-padded; apple/corenet makes it of NLTK's
`synset("WORD.n.01")` (data/datasets/classification/wordnet_tagged_classification.py), and takes the first 24,320 keys
as classes, in the file's order. So every key is a noun of WordNet 3.0, and no two keys are one synset after padding. A
file whose classes break this rule is refused: leaving a class out would renumber all classes behind it.

A pickle is a program. This one is never run: its instructions are read with pickletools. Only those that build one flat
dict of text and whole numbers are accepted; any other instruction is an error.
"""

from __future__ import annotations

import hashlib
import pickletools
import re
from collections.abc import Iterator

import numpy as np

from vocab import wordnet
from vocab.errors import InputError, MismatchError
from vocab.pages.text import counted
from vocab.store.locations import Location, read_whole
from vocab.vocabulary import Vocabulary

# WordNet has 82,115 noun synsets; all of them are below 4 MB in any protocol.
MAX_BYTES = 32 << 20
MAX_COUNT = 2**63 - 1

FRAMING = frozenset("PROTO FRAME MEMOIZE PUT BINPUT LONG_BINPUT".split())
SCALARS = frozenset(
    "UNICODE SHORT_BINUNICODE BINUNICODE BINUNICODE8 INT LONG BININT BININT1 BININT2 LONG1 LONG4".split()
)


def read_vocabulary(path: Location, *, classes: int) -> Vocabulary:
    """Read the first `classes` synsets of the file, as a vocabulary in the same order.

    Its `rows` is 0: the file does not say how many captions were counted. Raises InputError unless the file is a flat
    dict of synsets and counts in falling order whose classes are nouns of WordNet 3.0; MismatchError for fewer synsets
    than `classes`.
    """
    content = _content(path)
    try:
        pairs = list(_pairs(path, content))
    except ValueError as error:
        # pickletools raises this for a truncated pickle, or for bytes that are not a pickle.
        raise _refused(path, f"no readable pickle ({error})") from error
    if len(pairs) < classes:
        raise MismatchError(
            path,
            found=f"{len(pairs):,} synsets",
            wanted=f"at least {classes:,}, one for each class",
            remedy="Give the vocabulary that was released with these weights, or the right --classes.",
        )
    synsets = np.array([_offset(path, key) for key, _ in pairs], dtype=np.int32)
    counts = np.array([_count(path, key, value) for key, value in pairs], dtype=np.int64)
    if len(np.unique(synsets)) != len(synsets):
        raise _refused(path, "a synset that stands twice")
    if np.any(np.diff(counts) > 0):
        position = int(np.flatnonzero(np.diff(counts) > 0)[0])
        raise _refused(path, f"a count that is larger than the one before it ({pairs[position + 1][0]})")
    foreign = np.flatnonzero(~np.isin(synsets[:classes], wordnet.load().synsets))
    if len(foreign):
        first = pairs[int(foreign[0])][0]
        are = counted(len(foreign), "class that is", "classes that are")
        raise _refused(path, f"{are} no noun of WordNet 3.0, the first of them {first}")
    return Vocabulary(
        synsets[:classes],
        counts[:classes],
        rows=0,
        min_count=int(counts[classes - 1]),
        sources=(hashlib.sha256(content).hexdigest(),),
    )


def _content(path: Location) -> bytes:
    content = read_whole(path, most=MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise _refused(path, f"more bytes than any vocabulary of WordNet's nouns has ({MAX_BYTES:,})")
    return content


def _pairs(path: Location, content: bytes) -> Iterator[tuple[object, object]]:
    """Keys and values of the one dict that the pickle builds, in order.

    What any pickler writes for such a dict: an empty dict, then items in batches between MARK and SETITEMS, or single
    ones before SETITEM, then STOP, and nothing after it. Numbering of objects (MEMOIZE and the like) is skipped, and
    its use is refused: nothing in such a dict occurs twice.
    """
    begun = marked = False
    pending: list[object] = []
    end = 0
    for code, argument, position in pickletools.genops(content):
        name, end = code.name, position or 0
        if name in FRAMING:
            continue
        if not begun:
            # Protocol 0 writes an empty dict as MARK DICT.
            if name not in ("EMPTY_DICT", "MARK", "DICT") or (name == "DICT") != marked:
                raise _refused(path, f"a pickle that begins with {name}")
            begun, marked = name != "MARK", name == "MARK"
        elif name in SCALARS:
            pending.append(argument)
        elif name == "MARK" and not marked and not pending:
            marked = True
        elif (name == "SETITEMS" and marked and len(pending) % 2 == 0) or (
            name == "SETITEM" and not marked and len(pending) == 2
        ):
            yield from zip(pending[::2], pending[1::2], strict=True)
            pending, marked = [], False
        elif name != "STOP" or marked or pending:
            raise _refused(path, f"a pickle with {name}, which no flat dict of text and whole numbers has")
    if end != len(content) - 1:
        raise _refused(path, f"{len(content) - 1 - end:,} bytes after the end of the pickle")


def _offset(path: Location, key: object) -> int:
    """ "n5928118" -> 5928118."""
    if not isinstance(key, str) or re.fullmatch(r"n[0-9]{1,8}", key) is None:
        raise _refused(path, f"the key {_shown(key)}")
    return int(key[1:])


def _count(path: Location, key: object, value: object) -> int:
    if type(value) is not int or not 0 < value <= MAX_COUNT:
        raise _refused(path, f"{_shown(value)} as the count of {key}")
    return value


def _shown(value: object) -> str:
    # A pickle can hold a number of megabytes, which Python refuses to write out.
    if isinstance(value, int) and value.bit_length() > 64:
        return f"a number of {value.bit_length():,} bits"
    return f"{type(value).__name__} {value!r:.60}"


def _refused(path: Location, found: str) -> InputError:
    return InputError(
        path,
        found=found,
        wanted='a pickled dict of counts by synset, {"n5928118": 52418327, ...}, the most frequent first',
        remedy="Give the .pkl file that was released with the weights. A dict of another kind (a Counter, numpy's "
        "numbers) can be rewritten where it is trusted: pickle.dump({str(k): int(v) for k, v in old.items()}, file)",
    )
