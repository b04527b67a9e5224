"""Lists of synsets, written by users or ready-made in `vocab/lists/`, one item a line:

    n02084071 dog, domestic dog    the synset of a wnid; words behind it do not count, as in ImageNet's own lists
    dog.n.01                       a synset by word and number of the sense
    person.n.01+                   a synset and everything below it
    tench                          a word or phrase of one sense
    crane.n.*                      every sense of a word
    # slurs                        a comment, at the beginning of a line or behind an item

In: a location, or the name of a ready-made list. Out: offsets.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib import resources
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from vocab import wordnet
from vocab.errors import InputError
from vocab.store.locations import Location, read_whole, why
from vocab.synset_names import NAME, WNID, lemma_of, remedy_for, senses_of, synset_named
from vocab.taxonomy import descendants, rows_of

ReadyList = Literal["imagenet-1k", "imagenet-21k", "places365", "slurs-and-adult"]
"""lists in `vocab/lists/`; their first lines say what they hold and where they come from"""

WNID_LINE = re.compile(r"([nN][0-9]{8})(?:\s*(\+))?(?:[\s,;:](.*))?")
SYNSET = re.compile(r"\b(?:[nN][0-9]{8}|\w[\w.-]*\.n\.[0-9]{1,3})\b")
"""wnid or name inside of a longer text"""
COMMENT = re.compile(r"(^|\s)#.*")
SUBTREE = "+"
ALL_SENSES = ".n.*"
SHOWN_SENSES = 5
LONGEST_ITEM = 80
"""characters of an item that an error shows"""
MAX_BYTES = 64 * 2**20
"""bytes of a list; all of WordNet's nouns take one million"""
ONE_A_LINE = "Write one item a line, without quotes or other columns; a comment begins with #."


@dataclass(frozen=True, eq=False)
class SynsetList:
    """Synsets of one list."""

    name: str
    """ready-made list or location, as it was given"""
    synsets: NDArray[np.int32]
    """offsets, each once, ascending"""


def read_list(source: Location) -> SynsetList:
    """Read a ready-made list, or the list at a location.

    Raises InputError for a location that holds no readable text, for a list without an item, and for the first line
    that names no synset, or a word of several senses.
    """
    name = str(source)
    if name in get_args(ReadyList):
        text = resources.files("vocab").joinpath("lists", f"{name}.txt").read_text(encoding="utf-8")
    else:
        text = _text_of(source)
    found: set[int] = set()
    subtrees: set[int] = set()
    for number, line in enumerate(text.splitlines(), start=1):
        item = COMMENT.sub("", line).strip()
        if not item:
            continue
        where = f"{name}, line {number}"
        if match := WNID_LINE.fullmatch(item):
            _refuse_lost(item, match[3] or "", where=where)
            item = match[1] + (match[2] or "")
        synsets = _synsets_of(item.removesuffix(SUBTREE).strip() or item, where=where)
        (subtrees if item.endswith(SUBTREE) else found).update(synsets)
    if not found and not subtrees:
        raise InputError(
            name,
            found="no synset in it",
            wanted="wnids, names such as dog.n.01, words, or subtrees such as person.n.01+, one a line",
            remedy=f"Write the list, or name a ready-made one: {', '.join(get_args(ReadyList))}.",
        )
    nouns = wordnet.load()
    below = nouns.synsets[descendants(nouns, rows_of(nouns, np.array(sorted(subtrees), dtype=np.int32)))]
    return SynsetList(name, np.union1d(np.array(sorted(found), dtype=np.int32), below).astype(np.int32))


def _text_of(source: Location) -> str:
    try:
        content = read_whole(source, most=MAX_BYTES + 1)
        if len(content) <= MAX_BYTES:
            return content.decode("utf-8-sig")
        found, cause = f"more than {MAX_BYTES:,} bytes", None
    except (OSError, UnicodeDecodeError) as error:
        found, cause = f"no readable text file ({why(error)})", error
    raise InputError(
        source,
        found=found,
        wanted="a list of synsets, one a line",
        remedy=f"Name a text file, or a ready-made list: {', '.join(get_args(ReadyList))}.",
    ) from cause


def _refuse_lost(item: str, words: str, *, where: str) -> None:
    """Raise InputError if the words behind a wnid name another synset, or end in the + of a subtree."""
    if SYNSET.search(words) or words.endswith(SUBTREE):
        raise InputError(
            f"{where}: {item[:LONGEST_ITEM]}",
            found="another synset or a + behind the words",
            wanted="one synset, and a + next to its wnid, as in n00007846+",
            remedy=ONE_A_LINE,
        )


def _synsets_of(item: str, *, where: str) -> list[int]:
    """Offsets of a wnid, a name, a word of one sense, or all senses of a word."""
    if item.endswith(ALL_SENSES):
        senses = senses_of(item.removesuffix(ALL_SENSES))
    elif WNID.fullmatch(item) or NAME.fullmatch(item):
        synset = synset_named(item)
        senses = [] if synset is None else [synset]
    else:
        senses = senses_of(item)
        if len(senses) > 1:
            raise _several(item, senses, where=where)
    if not senses:
        shown = item[:LONGEST_ITEM]
        names = len(SYNSET.findall(shown))
        is_more = names > 1 or (names == 1 and not (WNID.fullmatch(item) or NAME.fullmatch(item)))
        raise InputError(
            f"{where}: {shown}",
            found="no such noun in WordNet 3.0",
            wanted="a wnid, a name such as dog.n.01, a word, or a subtree such as person.n.01+",
            remedy=ONE_A_LINE if is_more else remedy_for(shown),
        )
    return senses


def _several(word: str, senses: list[int], *, where: str) -> InputError:
    nouns = wordnet.load()
    rows = [nouns.row_of(synset) for synset in senses[:SHOWN_SENSES]]
    words = [", ".join(nouns.words_of(row)).replace("_", " ") for row in rows]
    names = [f"{name} ({spelled})" for name, spelled in zip(_names(word), words, strict=False)]
    more = f" and {len(senses) - SHOWN_SENSES} more" if len(senses) > SHOWN_SENSES else ""
    return InputError(
        f"{where}: {word[:LONGEST_ITEM]}",
        found=f"a word of {len(senses)} synsets: {', '.join(names)}{more}",
        wanted="one synset",
        remedy=f"Write the name of the one that is meant, or {lemma_of(word)}{ALL_SENSES} for all of them.",
    )


def _names(word: str) -> list[str]:
    return [f"{lemma_of(word)}.n.{number:02d}" for number in range(1, SHOWN_SENSES + 1)]
