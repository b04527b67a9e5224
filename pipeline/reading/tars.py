"""Captions in WebDataset tars: headers and text members are read, images are skipped.

000000003.jpg  000000003.json  000000003.txt  000000004.jpg ...
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.reading.json_captions import caption_texts
from pipeline.reading.nested import value_at
from pipeline.reading.rows import BATCH_ROWS, ROWS, ReadOptions, batch_of
from pipeline.reject_reasons import (
    CAPTION_TOO_LONG,
    MALFORMED_RECORD,
    NO_CAPTION,
    NOT_UTF8,
    REPEATED_KEY,
    TRUNCATED_TAR,
)
from vocab.errors import InputError
from vocab.store.tars import Member, Sample, samples

JSON_FIELD = "json."
"""prefix of a field in a sample's .json member"""
HOW_TO_REPEAT_NONE = (
    "repeated_key: members of a sample must be neighbours in their tar, and samples must have different keys; "
    "tar --sort=name packs members in sorted order"
)
MAX_MEMBER_BYTES = 16 << 20
"""a larger text member is not a caption, and could exhaust a worker's memory"""
HELD_BYTES = 64 << 20
"""bytes of captions of one tar that are held in memory, and of one batch; the rest goes to a temporary file"""


@dataclass
class _Row:
    """Captions of one sample, or the reason why it has none."""

    captions: list[bytes] = field(default_factory=list)
    named: list[bytes] = field(default_factory=list)
    """texts that name synsets"""
    reason: str | None = None


@dataclass
class _Ending:
    """Facts about a tar that are known only at its end."""

    repeats: Set[str] = frozenset()
    """keys of more than one sample"""
    failure: OSError | None = None
    """the error that kept it from being read to its end"""


def read_tar(stream: BinaryIO, reading: ReadOptions) -> Iterator[pa.RecordBatch]:
    """Rows of one tar. Captions and synsets are in members with an extension, or in a json.FIELD.

    An archive that breaks off ends with a row of reason "truncated_tar". The last sample can make the first one a
    "repeated_key": so rows are held until the archive ends, in one pass; to look ahead would take two.

    Raises tarfile.ReadError for a file that is not a tar from its first byte on; OSError, after the rows before it, for
    a tar that cannot be read to its end; InputError if the temporary file cannot be written.
    """
    ending = _Ending()
    with tempfile.SpooledTemporaryFile(HELD_BYTES) as held:
        try:
            with pa.ipc.new_stream(held, ROWS) as writer:
                for batch in _batches(stream, reading, ending):
                    writer.write_batch(batch)
            held.seek(0)
        except OSError as error:
            raise InputError(
                tempfile.gettempdir(),
                found=f"a disk that cannot be written ({error.strerror or error})",
                wanted="room for the captions of one tar",
                remedy="Make room there, or name another folder in TMPDIR.",
            ) from error
        for batch in pa.ipc.open_stream(held):
            yield _with_repeats(batch, ending.repeats) if ending.repeats else batch
    if ending.failure is not None:
        raise ending.failure


def _batches(stream: BinaryIO, reading: ReadOptions, ending: _Ending) -> Iterator[pa.RecordBatch]:
    """Rows of all samples, as far as the tar can be read; repeated keys are not rejected yet."""
    found = samples(stream)
    while ending.failure is None:
        keys: list[str] = []
        rows: list[_Row] = []
        size = 0
        try:
            for sample in islice(found, BATCH_ROWS):
                ending.repeats = sample.repeats
                row = _read(stream, sample, reading)
                keys.append(sample.key)
                rows.append(row)
                size += sum(map(len, row.captions)) + sum(map(len, row.named))
                if size > HELD_BYTES:
                    break
        except OSError as error:
            ending.failure = error
        if not rows:
            return
        captions = pa.array([row.captions for row in rows], pa.list_(pa.binary()))
        named = pa.array([row.named for row in rows], pa.list_(pa.binary())) if reading.synsets else None
        reasons = pa.array([row.reason for row in rows], pa.string())
        yield batch_of(pa.array(keys, pa.string()), captions, named=named, reasons=reasons)


def _with_repeats(batch: pa.RecordBatch, repeats: Set[str]) -> pa.RecordBatch:
    reasons = batch["reason"]
    again = pc.is_in(batch["key"], value_set=pa.array(sorted(repeats), pa.string()))
    whole = pc.not_equal(pc.fill_null(reasons, ""), TRUNCATED_TAR)
    reasons = pc.if_else(pc.and_(again, whole), REPEATED_KEY, reasons)
    return batch.set_column(ROWS.get_field_index("reason"), "reason", reasons)


def _read(stream: BinaryIO, sample: Sample, reading: ReadOptions) -> _Row:
    """Read the members of a sample that hold captions or name synsets."""
    if not sample.whole:
        return _Row(reason=TRUNCATED_TAR)
    row = _Row()
    for extension, member in sample.members.items():
        content = _content(stream, member, extension, reading.texts, row)
        if content is not None:
            _take(content, extension, reading.captions, row.captions, row)
            if reading.synsets:
                _take(content, extension, reading.synsets, row.named, row)
    if "\ufffd" in sample.key and row.reason is None:
        row.reason = NOT_UTF8
    if not row.captions and not row.named and row.reason is None:
        row.reason = NO_CAPTION
    return row


def _content(stream: BinaryIO, member: Member, extension: str, columns: Sequence[str], row: _Row) -> bytes | None:
    """Content of a member that a column names, or names a field of; None for other members, and one too large."""
    if extension not in columns and (extension != "json" or not any(c.startswith(JSON_FIELD) for c in columns)):
        return None
    if member.size > MAX_MEMBER_BYTES:
        row.reason = CAPTION_TOO_LONG
        return None
    stream.seek(member.offset)
    return stream.read(member.size)


def json_fields(stream: BinaryIO, member: Member) -> dict[str, Any] | None:
    """Fields of a sample's .json member; None for one that is too large or is not a JSON object."""
    if member.size > MAX_MEMBER_BYTES:
        return None
    stream.seek(member.offset)
    try:
        fields = json.loads(stream.read(member.size))
    except (ValueError, RecursionError):
        return None
    return fields if isinstance(fields, dict) else None


def _take(content: bytes, extension: str, columns: Sequence[str], texts: list[bytes], row: _Row) -> None:
    """Add the texts of a member that the columns name."""
    if extension in columns:
        texts.append(content)
    if extension != "json" or not (
        fields := [name.removeprefix(JSON_FIELD) for name in columns if name.startswith(JSON_FIELD)]
    ):
        return
    try:
        record = json.loads(content)
    except (ValueError, RecursionError):
        row.reason = MALFORMED_RECORD
        return
    texts += [text for name in fields for text in caption_texts(value_at(record, name))]
