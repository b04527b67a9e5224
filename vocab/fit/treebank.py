"""A treebank's sentences as captions with known parts of speech."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from vocab.cleaning import Cleaned, clean
from vocab.errors import FormatError, InputError
from vocab.tokens import Tokens, split_words


@dataclass(frozen=True)
class GoldToken:
    """One line of a CoNLL-U file.

    5	nominated	nominate	VERB	VBD	Mood=Ind|Tense=Past	0	root	0:root	SpaceAfter=No
    id	form	lemma	upos	xpos	features	head	relation	enhanced	misc
    """

    form: str
    lemma: str
    upos: str
    space_after: bool


def read_treebank(path: Path) -> list[list[GoldToken]]:
    """Sentences of a CoNLL-U file. Raises InputError for a missing file, FormatError for one of another kind."""
    if not path.is_file():
        raise InputError(
            path, found="no such file", wanted="a CoNLL-U treebank", remedy="Get one from universaldependencies.org."
        )
    with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as lines:
        return list(_sentences(lines, path))


def _sentences(lines: IO[str], path: Path) -> Iterator[list[GoldToken]]:
    sentence: list[GoldToken] = []
    joined_until, joined_space = 0, True
    for number, line in enumerate(lines, start=1):
        fields = line.rstrip("\n").split("\t")
        if fields == [""]:
            if sentence:
                yield sentence
            sentence, joined_until = [], 0
        elif not line.startswith("#"):
            if len(fields) != 10:
                raise FormatError(
                    f"{path}:{number}",
                    found=f"{len(fields)} fields",
                    wanted="the ten of CoNLL-U, parted by tabs",
                    remedy="Take the treebank's .conllu file as it was released.",
                )
            space = "SpaceAfter=No" not in fields[9]
            if "-" in fields[0]:  # one written word of several: 1-2 don't
                joined_until, joined_space = int(fields[0].split("-")[1]), space
            elif "." not in fields[0]:  # not a word that was left out
                if int(fields[0]) <= joined_until:
                    space = joined_space and int(fields[0]) == joined_until
                sentence.append(GoldToken(fields[1], fields[2], fields[3], space))
    if sentence:
        yield sentence


@dataclass(frozen=True, eq=False)
class Aligned:
    """Sentences as the labeler's words, and which gold tokens those are. G gold tokens."""

    tokens: Tokens
    first: NDArray[np.int64]
    """[T] gold token in which the word begins"""
    last: NDArray[np.int64]
    """[T] gold token in which it ends"""
    captions: list[str]


def align(sentences: Sequence[Sequence[GoldToken]], *, case: Callable[[str], str] = str) -> Aligned:
    """Write the sentences out as captions, split them into words, and find each word's gold tokens.

    `case` is applied to every token: `str.lower` for a treebank in lower case. Tokens are cleaned one by one, so that
    their places are known exactly.
    """
    texts: list[str] = []
    caption_starts = [0]
    edges = [0]
    length = 0
    for sentence in sentences:
        for token in sentence:
            text = case(clean(token.form)[0])
            length += len(text)
            edges.append(length)
            texts.append(text)
            if token.space_after:
                texts.append(" ")
                length += 1
        caption_starts.append(length)
    joined = "".join(texts)
    cleaned = Cleaned(
        np.frombuffer(joined.encode("ascii"), dtype=np.uint8),
        np.array(caption_starts, dtype=np.int64),
        np.zeros(len(sentences), dtype=np.int64),
        0,
    )
    tokens = split_words(cleaned)
    ends = np.array(edges[1:], dtype=np.int64)
    return Aligned(
        tokens,
        first=np.searchsorted(ends, tokens.places, side="right"),
        last=np.searchsorted(ends, tokens.ends, side="left"),
        captions=[joined[a:b] for a, b in pairwise(caption_starts)],
    )
