"""A bounded sample of the captions in input files, read without Spark.

In: the manifest of a label directory and the places of its input files. Out: a `CaptionSample`: texts as the job read
them, from the first rows of files spread evenly over all.

The job itself reads every row, on Spark (`captions`); here a few rows of a few files are enough, on any machine.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.inputs import Inputs, list_inputs
from pipeline.tars import read_samples
from vocab.errors import InputError, MismatchError
from vocab.manifest import InputFile, Manifest
from vocab.storage import filesystem_of

MAX_FILES = 32
MAX_ROWS = 100_000
"""rows read in all"""
MAX_BYTES = 64 << 20
"""bytes of text kept in all"""
PARQUET_ROWS = 4096
NOT_UTF8 = re.compile("[\ufffd\ud800-\udfff]")

Rows = Iterator[list[str]]
"""the captions of each row"""


@dataclass(frozen=True)
class CaptionSample:
    """Some captions of a corpus."""

    texts: list[str]
    """each once, in the order in which they were read"""
    rows: int
    """rows read for them"""
    files: int
    """files read from"""
    listed: int
    """input files given"""


@dataclass(frozen=True)
class Layout:
    """How the job was told to read its input files."""

    captions: tuple[str, ...]
    """columns that hold captions; in tars extensions"""
    columns: tuple[str, ...]
    """names of the columns of a file without a header line"""


def sample_captions(manifest: Manifest, places: tuple[str, ...]) -> CaptionSample:
    """Read captions out of the input files that a label directory was made from.

    Raises InputError for a place without files or a file that cannot be read so, and MismatchError for a file that
    the manifest does not name; a file is known by its name and size, for folders move.
    """
    config = manifest.config
    inputs = list_inputs(places, config.get("format", "auto"))
    refuse_others(manifest, inputs)
    default = ("txt",) if inputs.format == "webdataset" else ("caption",)
    layout = Layout(tuple(config.get("caption_columns") or default), tuple(config.get("columns") or ()))
    longest = int(config.get("max_caption_bytes") or MAX_BYTES)
    spread = np.unique(np.linspace(0, len(inputs.files) - 1, MAX_FILES).round().astype(int)).tolist()
    texts: dict[str, None] = {}
    rows = size = files = 0
    for place in spread:
        files += 1
        for captions in islice(rows_of_file(inputs, inputs.files[place], layout), MAX_ROWS // len(spread)):
            rows += 1
            for text in captions:
                length = len(text.encode("utf-8", "surrogatepass"))
                if length <= longest and is_text(text):
                    size += length
                    texts[text] = None
            if size > MAX_BYTES * files // len(spread):
                break
    return CaptionSample(list(texts), rows, files, len(inputs.files))


def refuse_others(manifest: Manifest, inputs: Inputs) -> None:
    """Raise MismatchError for a file that is none of the manifest's inputs, if it names any."""
    known = {(_name(file), file.size) for file in manifest.inputs}
    for file in inputs.files:
        if known and (_name(file), file.size) not in known:
            raise MismatchError(
                file.path,
                found=f"a file of {file.size:,} bytes that the labels were not made from",
                wanted=f"one of the {len(known):,} input files in the manifest, such as {manifest.inputs[0].path}",
                remedy="Give --captions as the labels' own job had them, or leave them out.",
            )


def is_text(text: str) -> bool:
    """Whether a caption was UTF-8: the readers put U+FFFD, or half a surrogate pair, in place of what was not."""
    return NOT_UTF8.search(text) is None


def rows_of_file(inputs: Inputs, file: InputFile, layout: Layout) -> Rows:
    """The captions of each row of a file."""
    match inputs.format:
        case "parquet" | "img2dataset":
            return _parquet_rows(file.path, layout)
        case "tsv":
            return _table_rows(file.path, layout, lambda lines: (line.rstrip("\r\n").split("\t") for line in lines))
        case "csv":
            return _table_rows(file.path, layout, csv.reader)
        case "jsonl":
            return _json_rows(file.path, layout)
        case "webdataset":
            samples = read_samples(file.path, layout.captions)
            return ([text.decode("utf-8", "replace") for text in sample.captions] for sample in samples)


def _parquet_rows(path: str, layout: Layout) -> Rows:
    filesystem, inner = filesystem_of(path)
    try:
        with filesystem.open_input_file(inner) as stream:
            parquet = pq.ParquetFile(stream)
            names = parquet.schema_arrow.names
            _require(layout.captions, names, path)
            # img2dataset has a row for every URL, and labels for those that it could download.
            status = ["status"] if "status" in names else []
            for batch in parquet.iter_batches(columns=[*layout.captions, *status], batch_size=PARQUET_ROWS):
                for row in batch.to_pylist():
                    if row.get("status", "success") == "success":
                        yield [text for name in layout.captions for text in _texts(row[name])]
    except (pa.ArrowInvalid, OSError) as error:
        raise _unreadable(path, error) from error


def _table_rows(path: str, layout: Layout, parse: Callable[[Iterable[str]], Iterator[list[str]]]) -> Rows:
    records = parse(_lines(path))
    try:
        names = list(layout.columns) or next(records, [])
        _require(layout.captions, names, path)
        places = [names.index(name) for name in layout.captions]
        for record in records:
            yield [record[place] for place in places if place < len(record)]
    except csv.Error as error:
        raise _unreadable(path, error) from error


def _json_rows(path: str, layout: Layout) -> Rows:
    for line in _lines(path):
        try:
            record = json.loads(line) if line.strip() else None
        except (ValueError, RecursionError):
            # The job rejected this row too.
            record = None
        if isinstance(record, dict):
            yield [text for name in layout.captions for text in _texts(record.get(name))]


def _lines(path: str) -> Iterator[str]:
    """Lines with their line ends; a lone carriage return ends none, as captions hold them."""
    filesystem, inner = filesystem_of(path)
    try:
        with filesystem.open_input_stream(inner) as stream:
            yield from io.TextIOWrapper(stream, encoding="utf-8-sig", errors="replace", newline="\n")
    except OSError as error:
        raise _unreadable(path, error) from error


def _texts(value: Any) -> list[str]:
    """A caption column's value, a text or a list of texts, as a list."""
    values = value if isinstance(value, list) else [value]
    return [v.decode("utf-8", "replace") if isinstance(v, bytes) else v for v in values if isinstance(v, (str, bytes))]


def _require(columns: tuple[str, ...], there: list[str], path: str) -> None:
    for name in columns:
        if name not in there:
            raise InputError(
                path,
                found=f"columns {', '.join(there)}",
                wanted=f"a column {name!r}, as when the labels were made",
                remedy="Give the files that the labels were made from, or leave --captions out.",
            )


def _unreadable(path: str, error: Exception) -> InputError:
    return InputError(
        path,
        found=f"a file that cannot be read ({error})",
        wanted="captions as the labels' own job read them",
        remedy="Copy the file again, or leave --captions out.",
    )


def _name(file: InputFile) -> str:
    return file.path.rpartition("/")[2]
