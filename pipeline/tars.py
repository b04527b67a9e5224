"""Captions out of WebDataset tars: headers and text members are read, images are skipped.

In: the path of a tar. Out: a row per sample (key, captions, reason), in Arrow batches.

    000000003.jpg  000000003.json  000000003.txt  000000004.jpg ...   a sample's members share the name to the first dot
"""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import BinaryIO

import pyarrow as pa

from vocab.errors import InputError
from vocab.storage import filesystem_of
from vocab.tars import BrokenTar, Member, split_name, walk

SCHEMA = pa.schema(
    [
        ("input", pa.string()),
        ("key", pa.string()),
        ("captions", pa.list_(pa.binary())),
        ("reason", pa.string()),
    ]
)
DDL = "input string, key string, captions array<binary>, reason string"
BATCH_ROWS = 4096
# A text member larger than this is no caption; reading it could exhaust a worker's memory.
MAX_MEMBER_BYTES = 16 << 20


@dataclass
class Sample:
    """One sample as its members pass by."""

    key: str
    captions: list[bytes] = field(default_factory=list)
    reason: str | None = None


def read_tars(batches: Iterator[pa.RecordBatch], columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """For `mapInArrow`: tar paths in (column "input"), samples out. `columns`: member extensions, or json.FIELD."""
    for batch in batches:
        for path in batch.column("input").to_pylist():
            rows: list[Sample] = []
            for sample in read_samples(path, columns):
                rows.append(sample)
                if len(rows) == BATCH_ROWS:
                    yield _batch(path, rows)
                    rows = []
            yield _batch(path, rows)


def read_samples(path: str, columns: Sequence[str]) -> Iterator[Sample]:
    """Samples of one tar. An archive that breaks off ends with a sample of reason "truncated_tar".

    Raises InputError for a file that is no tar from its first byte.
    """
    filesystem, inner = filesystem_of(path)
    sample: Sample | None = None
    with filesystem.open_input_file(inner) as stream:
        try:
            for member in walk(stream):
                key, extension = split_name(member.name)
                if sample is None or key != sample.key:
                    if sample is not None:
                        yield _closed(sample)
                    sample = Sample(key)
                _take(stream, member, extension, columns, sample)
        except BrokenTar as broken:
            key, _ = split_name(broken.name)
            if sample is not None and sample.key != key:
                yield _closed(sample)
            sample = Sample(key, reason="truncated_tar")
        except tarfile.ReadError as error:
            raise InputError(
                path, found=f"no tar ({error})", wanted="a WebDataset tar", remedy="Download it again, or leave it out."
            ) from error
    if sample is not None:
        yield _closed(sample)


def _take(stream: BinaryIO, member: Member, extension: str, columns: Sequence[str], sample: Sample) -> None:
    """Read a member if it holds captions."""
    fields = [column.removeprefix("json.") for column in columns if column.startswith("json.")]
    if extension not in columns and not (extension == "json" and fields):
        return
    if member.size > MAX_MEMBER_BYTES:
        sample.reason = "caption_too_long"
        return
    stream.seek(member.offset)
    content = stream.read(member.size)
    if extension in columns:
        sample.captions.append(content)
    if extension == "json" and fields:
        _take_fields(content, fields, sample)


def _take_fields(content: bytes, fields: Sequence[str], sample: Sample) -> None:
    try:
        record = json.loads(content)
    except (ValueError, RecursionError):
        sample.reason = "malformed_record"
        return
    values = [record.get(name) for name in fields] if isinstance(record, dict) else []
    for value in values:
        texts = value if isinstance(value, list) else [value]
        sample.captions += [text.encode("utf-8", "surrogatepass") for text in texts if isinstance(text, str)]


def _closed(sample: Sample) -> Sample:
    if "\ufffd" in sample.key and sample.reason is None:
        sample.reason = "not_utf8"
    if not sample.captions and sample.reason is None:
        sample.reason = "no_caption"
    return sample


def _batch(path: str, rows: list[Sample]) -> pa.RecordBatch:
    columns = [[path] * len(rows), [r.key for r in rows], [r.captions for r in rows], [r.reason for r in rows]]
    arrays = [pa.array(column, type_) for column, type_ in zip(columns, SCHEMA.types, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=SCHEMA)
