"""Input files to tasks: who reads what, fixed before anything is read.

In: the listed files. Out: `Task`s, each a run of neighbouring pieces in the order of their shards, large enough to be
worth starting and small enough that all cores have some.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import pyarrow.parquet as pq

from pipeline.reading.captions import Piece, Span
from pipeline.reading.inputs import Inputs
from pipeline.reading.parquet import split_groups
from vocab.store.files import BROKEN, filesystem_of
from vocab.store.manifest import InputFile

SPLIT_BYTES = 64 << 20
"""a larger Parquet file, or text file that is not compressed, is read by several tasks"""
PIECE_ROWS = 1_000_000
LEAST_WEIGHT, MOST_WEIGHT = 8 << 20, 256 << 20
"""of a task, in bytes of captions or thereabouts"""
TASKS_PER_CORE = 4
TAR_SHARE = 500
"""of a tar, this part or less is text; the rest is skipped"""
GZIP_RATIO = 3
NO_SPANS: Mapping[str, Sequence[Span]] = MappingProxyType({})


@dataclass(frozen=True)
class Task:
    """What one Spark task labels."""

    number: int
    pieces: tuple[Piece, ...]
    weight: int
    """bytes to read, about"""

    def to_json(self) -> dict[str, Any]:
        """As JSON holds it."""
        pieces = [[piece.path, piece.shard, piece.groups, piece.span] for piece in self.pieces]
        return {"number": self.number, "pieces": pieces, "weight": self.weight}

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Task:
        """The inverse of `to_json`."""
        pieces = tuple(
            Piece(path, shard, None if groups is None else tuple(groups), None if span is None else Span(*span))
            for path, shard, groups, span in content["pieces"]
        )
        return cls(content["number"], pieces, content["weight"])


def plan_tasks(
    inputs: Inputs,
    *,
    cores: int,
    task_bytes: int | None = None,
    spans: Mapping[str, Sequence[Span]] = MappingProxyType({}),
) -> tuple[Task, ...]:
    """Tasks in the order of shards, of `task_bytes` each or as many as suit the number of cores.

    Only the footers of large Parquet files are read; `spans` (`reading.spans`) says how large text files are cut.
    """
    pieces = sorted(
        (weighed for file in inputs.files for weighed in _pieces(file, inputs, spans.get(file.path, ()))),
        key=lambda weighed: (weighed[0].shard.encode(), weighed[0].groups or weighed[0].span or ()),
    )
    total = sum(weight for _, weight in pieces)
    most = task_bytes or min(MOST_WEIGHT, max(LEAST_WEIGHT, total // max(1, cores * TASKS_PER_CORE)))
    tasks: list[Task] = []
    held: list[Piece] = []
    weight = 0
    for piece, of_piece in pieces:
        if held and weight + of_piece > most:
            tasks.append(Task(len(tasks), tuple(held), weight))
            held, weight = [], 0
        held.append(piece)
        weight += of_piece
    if held:
        tasks.append(Task(len(tasks), tuple(held), weight))
    return tuple(tasks)


def _pieces(file: InputFile, inputs: Inputs, spans: Sequence[Span]) -> list[tuple[Piece, int]]:
    """The pieces of a file with their weights."""
    shard = inputs.shard_of(file.path)
    if inputs.format == "webdataset":
        return [(Piece(file.path, shard), file.size // TAR_SHARE)]
    if spans:
        return [(Piece(file.path, shard, span=span), span.stop - span.start) for span in spans]
    if inputs.format not in ("parquet", "img2dataset"):
        return [(Piece(file.path, shard), file.size * (GZIP_RATIO if file.path.endswith(".gz") else 1))]
    if file.size <= SPLIT_BYTES:
        return [(Piece(file.path, shard), file.size)]
    filesystem, path = filesystem_of(file.path)
    try:
        with filesystem.open_input_file(path) as stream:
            runs = split_groups(pq.ParquetFile(stream).metadata, PIECE_ROWS)
    except BROKEN:
        # The task that is to read it says what is wrong with it.
        return [(Piece(file.path, shard), file.size)]
    return [(Piece(file.path, shard, run), file.size // len(runs)) for run in runs]
