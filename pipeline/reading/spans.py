"""Large text files cut at the ends of lines, so that several tasks read one.

In: TSV and JSONL files that are not compressed. Out: for each of them `Span`s: bytes of whole lines, and the number of
the first, which keys are made of. To number lines, all that come before have to be counted: a pass over the bytes, on
Spark, that looks for line ends and nothing else. Quoted text is not cut: a line end in quotes ends no row.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import BinaryIO, NamedTuple

import pyarrow as pa
from pyspark.sql import SparkSession

from pipeline.planning import SPLIT_BYTES
from pipeline.reading.captions import Span
from pipeline.reading.dialects import spans_lines
from pipeline.reading.headers import reading_of_table
from pipeline.reading.inputs import Inputs
from pipeline.reading.lines import BLOCK
from pipeline.reading.rows import Reading
from vocab.store.files import filesystem_of

QUOTED = -1


class Range(NamedTuple):
    """Bytes of a file, cut anywhere."""

    path: str
    start: int
    stop: int


def spans_of(spark: SparkSession, inputs: Inputs, reading: Reading) -> dict[str, tuple[Span, ...]]:
    """The spans of every file that is worth cutting."""
    if inputs.format not in ("tsv", "jsonl"):
        return {}
    ranges = [
        Range(file.path, file.size * part // parts, file.size * (part + 1) // parts)
        for file in inputs.files
        if file.size > SPLIT_BYTES and not file.path.endswith(".gz")
        for parts in [math.ceil(file.size / SPLIT_BYTES)]
        for part in range(parts)
    ]
    if not ranges:
        return {}

    def count(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            numbers = batch.column(0).to_pylist()
            found = [lines_starting(ranges[number], reading) for number in numbers]
            columns = [numbers, [first for first, _ in found], [lines for _, lines in found]]
            yield pa.RecordBatch.from_arrays([pa.array(c, pa.int64()) for c in columns], ["part", "first", "lines"])

    rows = spark.range(0, len(ranges), 1, len(ranges)).mapInArrow(count, "part long, first long, lines long").collect()
    counted = {ranges[row["part"]]: (row["first"], row["lines"]) for row in rows}
    uncut = {place.path for place, (_, lines) in counted.items() if lines == QUOTED}
    return cut(
        {place: counted[place] for place in ranges if place.path not in uncut},
        {file.path: file.size for file in inputs.files},
    )


def cut(counted: Mapping[Range, tuple[int | None, int]], sizes: Mapping[str, int]) -> dict[str, tuple[Span, ...]]:
    """Spans from where the first line of each range starts, and how many start in it; ranges in order."""
    begins: dict[str, list[tuple[int, int]]] = {}
    lines_before: dict[str, int] = {}
    for place, (first, lines) in counted.items():
        if first is not None:
            begins.setdefault(place.path, []).append((first, lines_before.get(place.path, 0)))
        lines_before[place.path] = lines_before.get(place.path, 0) + lines
    return {
        path: tuple(
            Span(start, stop, number)
            for (start, number), stop in zip(starts, [*(start for start, _ in starts[1:]), sizes[path]], strict=True)
        )
        for path, starts in begins.items()
    }


def lines_starting(place: Range, reading: Reading) -> tuple[int | None, int]:
    """Where the first line starts that starts in the range, None if none does, and how many do.

    QUOTED instead of a number where the range begins a file whose rows may have several lines.
    """
    filesystem, path = filesystem_of(place.path)
    with filesystem.open_input_file(path) as file:
        head = file.read(BLOCK) if place.start == 0 and reading.format != "jsonl" else b""
        if head and spans_lines(head, reading_of_table(reading, head, where=place.path)):
            return None, QUOTED
        return count_starts(file, place.start, place.stop)


def count_starts(file: BinaryIO, start: int, stop: int) -> tuple[int | None, int]:
    """`lines_starting` in an open file. A line starts at 0, and behind every line end."""
    first, lines = (0, 1) if start == 0 else (None, 0)
    at = max(0, start - 1)
    file.seek(at)
    while at < stop - 1 and (block := file.read(min(BLOCK, stop - 1 - at))):
        lines += block.count(b"\n")
        if first is None and (end := block.find(b"\n")) >= 0:
            first = at + end + 1
        at += len(block)
    return first, lines
