"""Rows of caption files as they are stored, read without Spark: what the sample of captions is drawn from.

In: paths, and what holds the captions. Out: records, each the captions of one row. Parquet and tars come in groups, so
that the reader can stop after any of them; text comes by lines.
"""

from __future__ import annotations

import csv
import io
import itertools
import json
from collections.abc import Iterator, Sequence
from random import Random

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline import tars
from vocab.errors import InputError
from vocab.storage import filesystem_of

# Of text, which has no index to choose from, so much is read in all.
TEXT_BYTES = 1 << 30
CSV_FIELD_BYTES = 1 << 24

Record = tuple[bytes, ...]
"""the captions of one row, as they are stored"""


def row_groups(
    paths: Sequence[str], names: tuple[str, ...], chance: Random, *, sidecars: bool
) -> Iterator[list[Record]]:
    """Row groups of Parquet files: one of each file, then the others, so that footers are read as files are needed."""
    others: list[tuple[str, int]] = []
    for path in paths:
        order = list(range(_parquet(path).metadata.num_row_groups))
        chance.shuffle(order)
        others += [(path, group) for group in order[1:]]
        if order:
            yield read_row_group(path, order[0], names, sidecars=sidecars)
    chance.shuffle(others)
    for path, group in others:
        yield read_row_group(path, group, names, sidecars=sidecars)


def read_row_group(path: str, group: int, names: tuple[str, ...], *, sidecars: bool) -> list[Record]:
    """The captions of one row group. Of img2dataset's rows only those that were downloaded, as in the job."""
    file = _parquet(path)
    held = file.schema_arrow.names
    _require(path, names, held)
    wanted = [*names, *(["status"] if sidecars and "status" in held else [])]
    try:
        table = file.read_row_group(group, columns=wanted)
    except (pa.ArrowInvalid, OSError) as error:
        raise _unreadable(path, error) from error
    if "status" in wanted and "status" not in names:
        table = table.filter(pc.fill_null(pc.equal(table["status"], "success"), False))
    lists = [_binary_lists(path, name, table[name].combine_chunks()) for name in names]
    return [tuple(itertools.chain.from_iterable(row)) for row in zip(*lists, strict=True)]


def _parquet(path: str) -> pq.ParquetFile:
    filesystem, inner = filesystem_of(path)
    try:
        return pq.ParquetFile(inner, filesystem=filesystem)
    except (pa.ArrowInvalid, OSError) as error:
        raise _unreadable(path, error) from error


def _binary_lists(path: str, name: str, column: pa.Array) -> list[list[bytes]]:
    """A column of texts, or lists of texts, as lists of bytes without nulls."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if is_text(column.type):
        return [[] if text is None else [text] for text in column.cast(pa.large_binary()).to_pylist()]
    if (pa.types.is_list(column.type) or pa.types.is_large_list(column.type)) and is_text(column.type.value_type):
        lists = column.cast(pa.large_list(pa.large_binary())).to_pylist()
        return [[text for text in texts or [] if text is not None] for texts in lists]
    raise InputError(
        path,
        found=f"column {name!r} of type {column.type}",
        wanted="text, or a list of texts",
        remedy="Name another --caption-columns.",
    )


def is_text(kind: pa.DataType) -> bool:
    """Whether a column of this type holds texts."""
    return any(test(kind) for test in (pa.types.is_string, pa.types.is_large_string, pa.types.is_binary))


def tar_records(paths: Sequence[str], names: tuple[str, ...]) -> Iterator[list[Record]]:
    """The samples of each tar; those that the job would reject count as rows without a caption."""
    for path in paths:
        yield [tuple(sample.captions) if sample.reason is None else () for sample in tars.read_samples(path, names)]


def text_records(
    paths: Sequence[str], names: tuple[str, ...], columns: tuple[str, ...], *, quoted: bool
) -> Iterator[Record]:
    """Rows of TSV files, or of CSV files with quotes. A file's first line names its columns unless they are given."""
    for lines, path in bounded_lines(paths):
        rows = _csv_rows(lines) if quoted else (line.rstrip(b"\r\n").split(b"\t") for line in lines)
        try:
            header = columns or tuple(cell.decode("utf-8", "replace") for cell in next(rows, []))
            header = (header[0].removeprefix("\ufeff"), *header[1:]) if header else ()
            _require(path, names, list(header))
            places = [header.index(name) for name in names]
            for row in rows:
                yield tuple(row[place] for place in places if place < len(row) and row[place])
        except csv.Error as error:
            raise _unreadable(path, error) from error


def _csv_rows(lines: Iterator[bytes]) -> Iterator[list[bytes]]:
    """RFC 4180. Bytes that are not UTF-8 come through as they were."""
    csv.field_size_limit(CSV_FIELD_BYTES)
    text = (line.decode("utf-8", "surrogateescape") for line in lines)
    for row in csv.reader(text):
        if row:
            yield [cell.encode("utf-8", "surrogateescape") for cell in row]


def json_records(paths: Sequence[str], names: tuple[str, ...]) -> Iterator[Record]:
    """Rows of JSON lines; a line that is no object counts as a row without a caption."""
    for lines, _ in bounded_lines(paths):
        yield from (_json_captions(line, names) for line in lines if line.strip())


def _json_captions(line: bytes, names: tuple[str, ...]) -> Record:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return ()
    values = [record.get(name) for name in names] if isinstance(record, dict) else []
    texts = itertools.chain.from_iterable(value if isinstance(value, list) else [value] for value in values)
    return tuple(text.encode("utf-8", "surrogatepass") for text in texts if isinstance(text, str))


def bounded_lines(paths: Sequence[str]) -> Iterator[tuple[Iterator[bytes], str]]:
    """The lines of each file, gzip undone, until TEXT_BYTES were read in all."""
    left = [TEXT_BYTES]

    def lines(path: str) -> Iterator[bytes]:
        filesystem, inner = filesystem_of(path)
        try:
            with filesystem.open_input_stream(inner, compression="detect") as stream:
                for line in io.BufferedReader(stream):
                    yield line
                    left[0] -= len(line)
                    if left[0] <= 0:
                        return
        except (pa.ArrowInvalid, OSError) as error:
            raise _unreadable(path, error) from error

    for path in paths:
        if left[0] > 0:
            yield lines(path), path


def _require(path: str, names: Sequence[str], held: Sequence[str]) -> None:
    for name in names:
        if name not in held:
            raise InputError(
                path,
                found=f"columns {', '.join(held)}",
                wanted=f"a column {name!r}",
                remedy="Name the columns with --caption-columns, and those of a file without header with --columns.",
            )


def _unreadable(path: str, error: Exception) -> InputError:
    return InputError(
        path,
        found=f"a file that cannot be read ({error})",
        wanted="a whole file of the format that its name tells",
        remedy="Download it again, or leave it out of --captions.",
    )
