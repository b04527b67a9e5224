"""Input files to tasks, fixed before any caption is read, and the functions that give work to tasks on Spark.

A `Task` has neighbouring pieces in the order of their shards. It is large enough to be worth starting and small enough
to keep all cores busy.

Large text files that are not compressed are cut at line ends, so that several tasks read one. A cut is a `Span`: bytes
of whole lines, and the number of the first line, which keys are made of. Numbering the lines takes a pass over the
bytes, on Spark, that only looks for line ends. Text with quotes is not cut: a line end inside quotes ends no row.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.reading.captions import Piece, Span
from pipeline.reading.dialects import reading_of_table, spans_lines
from pipeline.reading.inputs import InputFiles
from pipeline.reading.lines import BLOCK
from pipeline.reading.parquet import split_groups
from pipeline.reading.rows import ReadOptions
from vocab.store.files import BROKEN, open_file
from vocab.store.manifest import InputFile
from vocab.store.secrets import without_secrets

if TYPE_CHECKING:
    # Executors load this module too, and need no Spark.
    from pyspark.sql import DataFrame, SparkSession

Item = TypeVar("Item")

SPLIT_BYTES = 64 << 20
"""size above which a Parquet file, or a text file that is not compressed, is read by several tasks"""
PIECE_ROWS = 1_000_000
"""approximate rows in a piece of a large Parquet file"""
LEAST_WEIGHT, MOST_WEIGHT = 8 << 20, 256 << 20
"""bounds of a task's weight: roughly its bytes of captions"""
TASKS_PER_CORE = 4
MOST_TASKS = 10_000
"""tasks of a Spark job at most: beyond, Spark's own work for a task outweighs the reading of a file"""
TAR_SHARE = 500
"""a tar weighs its size divided by this: at most so small a part of it is text, and the rest is skipped"""
GZIP_RATIO = 3
"""bytes of text in a byte of gzip, roughly"""


@dataclass(frozen=True)
class Task:
    """Pieces that one Spark task labels."""

    number: int
    pieces: tuple[Piece, ...]
    weight: int
    """approximate bytes to read"""

    def to_json(self) -> dict[str, Any]:
        """Fields of the task's JSON, without the secrets of its locations."""
        pieces = [[without_secrets(piece.path), piece.shard, piece.groups, piece.span] for piece in self.pieces]
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
    inputs: InputFiles,
    *,
    cores: int,
    task_bytes: int | None = None,
    spans: Mapping[str, Sequence[Span]] = MappingProxyType({}),
) -> tuple[Task, ...]:
    """Cut the input into tasks in the order of shards, of `task_bytes` each or as many as suit the number of cores.

    Only the footers of large Parquet files are read. `spans`: cuts of large text files (`spans_of`).
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


def _pieces(file: InputFile, inputs: InputFiles, spans: Sequence[Span]) -> list[tuple[Piece, int]]:
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
    try:
        with open_file(file.path) as stream:
            runs = split_groups(pq.ParquetFile(stream).metadata, PIECE_ROWS)
    except BROKEN:
        # The task that reads the file reports what is wrong with it.
        return [(Piece(file.path, shard), file.size)]
    return [(Piece(file.path, shard, run), file.size // len(runs)) for run in runs]


def rows_of_each(
    spark: SparkSession,
    items: Sequence[Item],
    read: Callable[[Item], Iterable[pa.RecordBatch]],
    columns: str,
    *,
    most_tasks: int = MOST_TASKS,
) -> DataFrame:
    """Rows that `read` makes of the items, in their order, a task for each item or a few. `columns`: in Spark's DDL."""
    if not items:
        return spark.createDataFrame([], columns)

    # Each item is read by the same task in every run, so that Spark samples the same rows to cut ranges.
    held = tuple(items)

    def run(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            for number in batch.column(0).to_pylist():
                yield from read(held[number])

    return spark.range(0, len(held), 1, min(len(held), most_tasks)).mapInArrow(run, columns)


def text_of_each(
    spark: SparkSession, items: Sequence[Item], work: Callable[[Item], str], *, most_tasks: int = MOST_TASKS
) -> list[str]:
    """Texts that `work` makes of the items, in their order, by one Spark job."""

    def read(item: Item) -> Iterator[pa.RecordBatch]:
        yield pa.RecordBatch.from_pydict({"text": pa.array([work(item)], pa.string())})

    return [row["text"] for row in rows_of_each(spark, items, read, "text string", most_tasks=most_tasks).collect()]


QUOTED = -1


class Range(NamedTuple):
    """Bytes of a file, cut anywhere."""

    path: str
    start: int
    stop: int


def spans_of(spark: SparkSession, inputs: InputFiles, reading: ReadOptions) -> dict[str, tuple[Span, ...]]:
    """Spans of every file that is worth cutting, by path."""
    if inputs.format not in ("tsv", "jsonl"):
        return {}
    ranges = [
        Range(file.path, file.size * part // parts, file.size * (part + 1) // parts)
        for file in inputs.files
        if file.size > SPLIT_BYTES and not file.path.endswith(".gz")
        for parts in [math.ceil(file.size / SPLIT_BYTES)]
        for part in range(parts)
    ]
    counts = text_of_each(spark, ranges, lambda part: json.dumps(lines_starting(part, reading)))
    counted = {part: json.loads(count) for part, count in zip(ranges, counts, strict=True)}
    uncut = {part.path for part, (_, lines) in counted.items() if lines == QUOTED}
    return cut(
        {part: count for part, count in counted.items() if part.path not in uncut},
        {file.path: file.size for file in inputs.files},
    )


def cut(counted: Mapping[Range, tuple[int | None, int]], sizes: Mapping[str, int]) -> dict[str, tuple[Span, ...]]:
    """Spans, from where the first line of each range starts and how many lines start in it; ranges in order."""
    begins: dict[str, list[tuple[int, int]]] = {}
    lines_before: dict[str, int] = {}
    for part, (first, lines) in counted.items():
        if first is not None:
            begins.setdefault(part.path, []).append((first, lines_before.get(part.path, 0)))
        lines_before[part.path] = lines_before.get(part.path, 0) + lines
    return {
        path: tuple(
            Span(start, stop, number)
            for (start, number), stop in zip(starts, [*(start for start, _ in starts[1:]), sizes[path]], strict=True)
        )
        for path, starts in begins.items()
    }


def lines_starting(part: Range, reading: ReadOptions) -> tuple[int | None, int]:
    """Start of the first line that starts in the range, or None, and the number of lines that start in it.

    The number is QUOTED if the range begins a file whose rows may have several lines.
    """
    with open_file(part.path) as file:
        head = file.read(BLOCK) if part.start == 0 and reading.format != "jsonl" else b""
        if head and spans_lines(head, reading_of_table(reading, head, where=part.path)):
            return None, QUOTED
        return count_starts(file, part.start, part.stop)


def count_starts(file: BinaryIO, start: int, stop: int) -> tuple[int | None, int]:
    """`lines_starting` in an open file. A line starts at byte 0, and after every line end."""
    first, lines = (0, 1) if start == 0 else (None, 0)
    at = max(0, start - 1)
    file.seek(at)
    while at < stop - 1 and (block := file.read(min(BLOCK, stop - 1 - at))):
        lines += block.count(b"\n")
        if first is None and (end := block.find(b"\n")) >= 0:
            first = at + end + 1
        at += len(block)
    return first, lines
