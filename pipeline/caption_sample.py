"""A seeded sample of captions in any format the job reads, without Spark and, where it can be, without reading it all.

In: an `Inputs` and what holds the captions. Out: a `CaptionSample`.

Parquet: some row groups of some files. Tars: some tars. Text: its first five million rows, by files in a random order.
Of what is read every row has the same chance; how many rows were read stands in the result.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random

import pyarrow.parquet as pq

from pipeline.config import Label, Quoting
from pipeline.reading.captions import Piece, UnreadableFile, read_piece, reading_of
from pipeline.reading.inputs import Inputs
from pipeline.reading.rows import ReadOptions
from vocab.errors import InputError
from vocab.store.files import BROKEN, filesystem_of

Record = tuple[bytes, ...]
"""the captions of one row, as they are stored; none of a row that the labelling job rejects"""

# Rows are drawn from this many times as many, so that one row group or tar does not make the whole sample.
SPREAD = 4
# Of text, which has no index to choose from, so many rows are read in all.
TEXT_ROWS = 5_000_000
MAX_CAPTION_BYTES = 65_536


@dataclass
class CaptionSample:
    """Captions, and what they were drawn from."""

    captions: list[str]
    rows: int = 0
    """rows drawn; a row holds none, one or several captions"""
    rows_read: int = 0
    """rows they were drawn from"""
    unusable: int = 0
    """captions drawn that the labelling job would reject: not UTF-8, or too long"""
    files: int = 0
    """files of the input"""


def draw_captions(
    inputs: Inputs,
    *,
    caption_columns: tuple[str, ...],
    columns: tuple[str, ...],
    rows: int,
    seed: int,
    separator: str | None = None,
    quoting: Quoting | None = None,
) -> CaptionSample:
    """Draw `rows` rows, or all there are, and take their captions.

    Raises InputError for a file that cannot be read, a column that is not there, and if no caption is found.
    """
    chance = Random(seed)
    paths = chance.sample([file.path for file in inputs.files], len(inputs.files))
    options = Label((), "", inputs.format, caption_columns, columns=columns, separator=separator, quoting=quoting)
    reading = reading_of(options, inputs)
    records = read_records(paths, reading, chance, rows=rows)
    drawn, read = reservoir(records, rows, chance)
    texts = [text for record in drawn for text in record if text]
    captions = [caption for text in texts if (caption := usable(text)) is not None]
    if not captions:
        raise InputError(
            inputs.files[0].path if len(inputs.files) == 1 else f"{len(inputs.files)} input files",
            found=f"no caption in {read:,} rows",
            wanted="at least one",
            remedy="Check --format, --caption-columns and --columns.",
        )
    return CaptionSample(captions, len(drawn), read, len(texts) - len(captions), len(inputs.files))


def read_records(paths: Sequence[str], reading: ReadOptions, chance: Random, *, rows: int) -> Iterator[Record]:
    """Rows to draw from: enough of them, in an order of files that chance made."""
    if reading.format in ("parquet", "img2dataset"):
        groups = (list(records_of(piece, reading)) for piece in row_groups(paths, chance))
        return itertools.chain.from_iterable(until(groups, rows * SPREAD))
    files = (Piece(path, "") for path in paths)
    if reading.format == "webdataset":
        return itertools.chain.from_iterable(until((list(records_of(tar, reading)) for tar in files), rows * SPREAD))
    return itertools.islice(itertools.chain.from_iterable(records_of(file, reading) for file in files), TEXT_ROWS)


def records_of(piece: Piece, reading: ReadOptions) -> Iterator[Record]:
    """Rows of one piece. Raises InputError for a file that cannot be read."""
    try:
        for batch in read_piece(piece, reading):
            reasons = batch.column("reason").to_pylist()
            for captions, reason in zip(batch.column("captions").to_pylist(), reasons, strict=True):
                yield tuple(captions) if reason in (None, "not_utf8") else ()
    except UnreadableFile as error:
        raise _unreadable(piece.path, str(error)) from error


def row_groups(paths: Sequence[str], chance: Random) -> Iterator[Piece]:
    """Row groups of Parquet files: one of each file, then the others, so that footers are read as files are needed."""
    others: list[Piece] = []
    for path in paths:
        pieces = [Piece(path, "", (group,)) for group in range(_count_groups(path))]
        chance.shuffle(pieces)
        others += pieces[1:]
        yield from pieces[:1]
    chance.shuffle(others)
    yield from others


def _count_groups(path: str) -> int:
    filesystem, inner = filesystem_of(path)
    try:
        with filesystem.open_input_file(inner) as stream:
            count: int = pq.ParquetFile(stream).metadata.num_row_groups
    except BROKEN as error:
        raise _unreadable(path, str(error)) from error
    return count


def _unreadable(path: str, error: str) -> InputError:
    return InputError(
        path,
        found=f"a file that cannot be read ({error})",
        wanted="a whole file of the format that its name tells",
        remedy="Download it again, or leave it out of --captions.",
    )


def until(groups: Iterator[list[Record]], rows: int) -> Iterator[list[Record]]:
    """Groups of rows until they hold `rows`."""
    held = 0
    for group in groups:
        yield group
        held += len(group)
        if held >= rows:
            return


def reservoir(records: Iterator[Record], rows: int, chance: Random) -> tuple[list[Record], int]:
    """`rows` of the records, each with the same chance, and how many there were (Vitter's algorithm R)."""
    drawn = list(itertools.islice(records, rows))
    read = len(drawn)
    for record in records:
        read += 1
        place = int(chance.random() * read)
        if place < rows:
            drawn[place] = record
    return drawn, read


def usable(text: bytes) -> str | None:
    """A caption that the labelling job would label, else None."""
    if len(text) > MAX_CAPTION_BYTES:
        return None
    try:
        return text.decode("utf-8")
    except UnicodeDecodeError:
        return None
