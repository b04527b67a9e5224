"""Captions out of WebDataset tars: headers and text members are read, images are skipped.

In: an open tar. Out: batches of `rows.ROWS`, a row for each sample.

    000000003.jpg  000000003.json  000000003.txt  000000004.jpg ...   a sample's members share the name to the first dot
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import BinaryIO

import pyarrow as pa

from pipeline.rows import BATCH_ROWS, batch_of
from vocab.tars import BrokenTar, Member, split_name, walk

TRUNCATED = "truncated_tar"
# A text member larger than this is no caption; reading it could exhaust a worker's memory.
MAX_MEMBER_BYTES = 16 << 20


@dataclass
class Sample:
    """One sample as its members pass by."""

    key: str
    captions: list[bytes] = field(default_factory=list)
    reason: str | None = None


def read_tar(stream: BinaryIO, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """Samples of one tar. `columns`: members' extensions, or json.FIELD.

    An archive that breaks off ends with a sample of reason "truncated_tar". Raises tarfile.ReadError for a file that is
    no tar from its first byte.
    """
    samples = read_samples(stream, columns)
    while rows := list(islice(samples, BATCH_ROWS)):
        yield batch_of(
            pa.array([row.key for row in rows], pa.string()),
            pa.array([row.captions for row in rows], pa.list_(pa.binary())),
            reasons=pa.array([row.reason for row in rows], pa.string()),
        )


def read_samples(stream: BinaryIO, columns: Sequence[str]) -> Iterator[Sample]:
    """The samples one after another, as `read_tar` has them."""
    sample: Sample | None = None
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
        sample = Sample(key, reason=TRUNCATED)
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
