"""The vocabulary: the synsets that are classes, in order.

In: how many captions hold each synset. Out: the synsets seen at least `min_count` times (CatLIP's V_tau) or the
`top_k` most frequent, most frequent first, ties broken by synset, so that the same counts always give the same classes.

    vocabulary.parquet    label: int32 (0 = most frequent)   synset: "n02084071"   captions: int64   name: "dog.n.01"
                          lemmas: ["dog", "domestic_dog", "Canis_familiaris"]
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from vocab import wordnet
from vocab.depictable import are_depictable
from vocab.errors import CatlipError, FormatError, InputError
from vocab.labeler_record import LabelerRecord
from vocab.pages.text import counted
from vocab.store.files import DAMAGED, write_whole
from vocab.store.locations import read_whole
from vocab.store.sealing import digest_of

FORMAT_VERSION = 1
SCHEMA = pa.schema(
    [
        pa.field("label", pa.int32(), nullable=False),
        pa.field("synset", pa.string(), nullable=False),
        pa.field("captions", pa.int64(), nullable=False),
        pa.field("name", pa.string(), nullable=False),
        pa.field("lemmas", pa.list_(pa.string()), nullable=False),
    ]
)
METADATA_KEY = b"catlip-vocabulary"


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """The classes of a training run."""

    synsets: NDArray[np.int32]
    """[classes] WordNet 3.0 noun offsets, most frequent first; a class's index is its label"""
    captions: NDArray[np.int64]
    """[classes] captions that hold the synset"""
    rows: int
    """rows counted, also those without a synset: captions / rows is a class's frequency; 0 if unknown"""
    min_count: int
    """least number of captions of a synset in the vocabulary"""
    sources: tuple[str, ...] = ()
    """sha256 of each counts.parquet that it was counted from"""
    merged: tuple[tuple[int, int], ...] = ()
    """pairs of a synset that is no class of its own, and the class's synset that it counts for; ascending"""
    choice: tuple[str, ...] = ()
    """how classes were chosen beside their counts, an option each: "--depictable", "--only imagenet-1k" """
    labeler: LabelerRecord | None = None
    """labeler that made the labels; None where it is not known"""

    @classmethod
    def from_counts(
        cls,
        counts: pa.Table,
        *,
        rows: int,
        min_count: int | None = None,
        top_k: int | None = None,
        sources: tuple[str, ...] = (),
        merged: tuple[tuple[int, int], ...] = (),
        choice: tuple[str, ...] = (),
        labeler: LabelerRecord | None = None,
    ) -> Vocabulary:
        """Make a vocabulary by threshold or size, from columns synset: int32 and captions: int64.

        Section 3.1 of the CatLIP paper keeps synsets with more than V_tau occurrences; here `min_count` is the least
        number that is kept, counted once per caption. Raises InputError unless exactly one of the two rules is given
        and at least one synset passes it.
        """
        if (min_count is None) == (top_k is None):
            raise InputError(
                "vocabulary",
                found=f"min_count={min_count}, top_k={top_k}",
                wanted="one of the two",
                remedy="Give a threshold (--min-count 500) or a size (--top-k 24320).",
            )
        synsets = counts["synset"].to_numpy().astype(np.int32)
        captions = counts["captions"].to_numpy().astype(np.int64)
        order = np.lexsort((synsets, -captions))
        order = order[captions[order] >= min_count] if min_count is not None else order[:top_k]
        if (min_count is not None and min_count < 1) or (top_k is not None and top_k < 1) or len(order) == 0:
            raise InputError(
                "vocabulary",
                found=f"no class at min_count={min_count}, top_k={top_k} among {counted(len(counts), 'synset')}",
                wanted="at least one class, and a rule of at least 1",
                remedy=f"The most frequent synset occurs {captions.max(initial=0):,} times; choose a lower threshold.",
            )
        least = min_count if min_count is not None else int(captions[order[-1]])
        kept = set(synsets[order].tolist())
        merged = tuple(sorted(pair for pair in merged if pair[1] in kept))
        return cls(synsets[order], captions[order], rows, least, sources, merged, choice, labeler)

    def __len__(self) -> int:
        return len(self.synsets)

    @cached_property
    def fingerprint(self) -> str:
        """sha256 of the ordered synsets, with those merged into them if there are any: two vocabularies are
        interchangeable exactly when theirs are equal."""
        merged = [f"{wordnet.wnid_of(synset)}={wordnet.wnid_of(of)}" for synset, of in self.merged]
        return hashlib.sha256(" ".join([*self.wnids, *merged]).encode()).hexdigest()

    @property
    def sha256_of_synsets(self) -> str:
        """sha256 of the ordered synsets alone, as the file has it."""
        return hashlib.sha256(" ".join(self.wnids).encode()).hexdigest()

    @cached_property
    def wnids(self) -> list[str]:
        """[classes] as ImageNet writes synsets: "n02084071"."""
        return [wordnet.wnid_of(synset) for synset in self.synsets.tolist()]

    @cached_property
    def names(self) -> list[str]:
        """[classes] as NLTK writes synsets: "dog.n.01"."""
        nouns = wordnet.load()
        return [nouns.name_of(nouns.row_of(synset)) for synset in self.synsets.tolist()]

    @cached_property
    def log_odds(self) -> NDArray[np.float64]:
        """[classes] log-odds of each class's frequency: the best guess for an unseen image.

        A class of every row counts as missing from one more row, and a class of none as present in one more, so that
        no value is infinite. Where the number of rows is unknown, each label counts as a row: captions hold several,
        so this estimate is too large.
        """
        rows = max(self.rows or int(self.captions.sum()), int(self.captions.max()), 1)
        share = np.clip(self.captions / rows, 1 / (rows + 1), rows / (rows + 1))
        odds: NDArray[np.float64] = np.log(share / (1 - share))
        return odds

    @cached_property
    def members(self) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """Synsets that have a class, and the class of each: class after class, behind its own synset merged ones."""
        label_of = {synset: label for label, synset in enumerate(self.synsets.tolist())}
        label_of |= {synset: label_of[of] for synset, of in self.merged}
        labels = np.array(list(label_of.values()), dtype=np.int32)
        order = np.argsort(labels, kind="stable")
        return np.array(list(label_of), dtype=np.int32)[order], labels[order]

    @cached_property
    def _sorted(self) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """The members, ascending by synset."""
        synsets, labels = self.members
        order = np.argsort(synsets)
        return synsets[order], labels[order]

    def classes_of(self, synsets: NDArray[np.int32]) -> NDArray[np.int32]:
        """Class index of each synset, that of its class for a merged one, -1 for synsets that the vocabulary lacks.

        The same shape as `synsets`; two synsets of a caption may give the same class.
        """
        ascending, classes = self._sorted
        places = np.minimum(np.searchsorted(ascending, synsets), len(ascending) - 1)
        return np.where(ascending[places] == synsets, classes[places], -1).astype(np.int32)

    def to_table(self) -> pa.Table:
        """The table of vocabulary.parquet, metadata included."""
        nouns = wordnet.load()
        header: dict[str, Any] = {
            "version": FORMAT_VERSION,
            "min_count": self.min_count,
            "rows": self.rows,
            "fingerprint": self.sha256_of_synsets,
            "sources": self.sources,
            "depictable": "".join("01"[int(mark)] for mark in are_depictable(self.synsets)),
        }
        # Optional, so that the readers of earlier releases find what they know.
        if self.merged:
            header["merged"] = {wordnet.wnid_of(synset): wordnet.wnid_of(of) for synset, of in self.merged}
        if self.choice:
            header["choice"] = self.choice
        if self.labeler is not None:
            header["labeler"] = self.labeler.to_json()
        columns = [
            np.arange(len(self), dtype=np.int32),
            self.wnids,
            self.captions,
            self.names,
            [nouns.words_of(nouns.row_of(synset)) for synset in self.synsets.tolist()],
        ]
        table = pa.table(columns, schema=SCHEMA)
        header["sha256"] = _content_sha256(header, table)
        return table.replace_schema_metadata({METADATA_KEY: json.dumps(header)})

    def save(self, path: str | Path) -> None:
        """Write vocabulary.parquet whole or not at all; the same vocabulary gives the same bytes."""
        with write_whole(path) as file:
            pq.write_table(self.to_table(), file, compression="zstd")

    @classmethod
    def load(cls, path: str | Path) -> Vocabulary:
        """Read and check vocabulary.parquet. Raises FormatError if it is not one, is newer, or was altered."""
        try:
            table = pq.read_table(pa.BufferReader(read_whole(path)), partitioning=None)
            header = _header(path, table)
        except FileNotFoundError as error:
            raise _unreadable(path, "no such file") from error
        except DAMAGED as error:
            raise _unreadable(path, f"no readable Parquet file ({error})") from error
        try:
            synsets = _offsets(path, table["synset"].to_pylist())
        except UnicodeDecodeError as error:
            raise _unreadable(path, f"a synset that is not text ({error})") from error
        others, classes = (_offsets(path, list(wnids)).tolist() for wnids in (header.merged, header.merged.values()))
        merged = tuple(zip(others, classes, strict=True))
        vocabulary = cls(
            synsets,
            table["captions"].to_numpy(),
            header.rows,
            header.min_count,
            header.sources,
            merged,
            header.choice,
            header.labeler,
        )
        in_order = np.array_equal(table["label"].to_numpy(), np.arange(len(table)))
        if not in_order or vocabulary.sha256_of_synsets != header.fingerprint:
            raise _unreadable(path, "classes that do not match the fingerprint stored with them")
        known = set(synsets.tolist())
        if len(known) != len(vocabulary) or not known.isdisjoint(others):
            raise _unreadable(path, "a synset that stands twice")
        if not known.issuperset(classes):
            raise _unreadable(path, "a synset merged into one that is no class")
        return vocabulary


@dataclass(frozen=True)
class _Header:
    """Metadata of the file."""

    rows: int
    min_count: int
    sources: tuple[str, ...]
    fingerprint: str
    merged: dict[str, str]
    choice: tuple[str, ...]
    labeler: LabelerRecord | None


def _offsets(path: str | Path, wnids: list[str]) -> NDArray[np.int32]:
    try:
        return np.array([wordnet.synset_of_wnid(wnid) for wnid in wnids], dtype=np.int32)
    except CatlipError as error:
        raise _unreadable(path, f"an unknown synset ({error.found})") from error


def _header(path: str | Path, table: pa.Table) -> _Header:
    """Read the Parquet metadata. Raises FormatError if there is none, if it is newer, or if the table was altered."""
    stored = (table.schema.metadata or {}).get(METADATA_KEY)
    if stored is None and table.schema.names == SCHEMA.names:
        raise _unreadable(path, "the columns of a vocabulary without its metadata, as another program writes them")
    if stored is None or not table.schema.equals(SCHEMA):
        raise _unreadable(path, "a Parquet file of something else")
    try:
        header = json.loads(stored)
        if header["version"] > FORMAT_VERSION:
            raise _unreadable(path, f"format version {header['version']}, written by a newer release")
        if "sha256" in header and header["sha256"] != _content_sha256(header, table):
            raise _unreadable(path, "content that does not match the checksum stored with it")
        return _Header(
            rows=int(header["rows"]),
            min_count=int(header["min_count"]),
            sources=tuple(map(str, header["sources"])),
            fingerprint=str(header["fingerprint"]),
            merged={str(synset): str(of) for synset, of in header.get("merged", {}).items()},
            choice=tuple(map(str, header.get("choice", ()))),
            labeler=None if "labeler" not in header else LabelerRecord.from_json(header["labeler"]),
        )
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise _unreadable(path, f"unreadable metadata ({error!r})") from error


def _content_sha256(header: Mapping[str, Any], table: pa.Table) -> str:
    """sha256 of every column and of the metadata without this checksum."""
    rest = {name: value for name, value in header.items() if name != "sha256"}
    return digest_of([rest, table.to_pydict()])


def _unreadable(path: str | Path, found: str) -> FormatError:
    return FormatError(
        path,
        found=found,
        wanted=f"a vocabulary of format version {FORMAT_VERSION}",
        remedy="Make it with: python -m pipeline prune --labels LABELS --min-count N --out vocabulary.parquet; "
        "to choose its classes, give --only and --without.",
    )
