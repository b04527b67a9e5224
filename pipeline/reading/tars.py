"""Captions in WebDataset tars: headers and text members are read, images are skipped.

000000003.jpg  000000003.json  000000003.txt  000000004.jpg ...
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass
from itertools import islice
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.reading.json_captions import caption_texts
from pipeline.reading.nested import value_at
from pipeline.reading.rows import BATCH_ROWS, ROWS, CaptionRow, ReadOptions, batch_of_rows
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
        rows: list[CaptionRow] = []
        size = 0
        try:
            for sample in islice(found, BATCH_ROWS):
                ending.repeats = sample.repeats
                rows.append(_read(stream, sample, reading))
                size += sum(map(len, rows[-1].captions)) + sum(map(len, rows[-1].named))
                if size > HELD_BYTES:
                    break
        except OSError as error:
            ending.failure = error
        if not rows:
            return
        yield batch_of_rows(rows, reading)


def _with_repeats(batch: pa.RecordBatch, repeats: Set[str]) -> pa.RecordBatch:
    reasons = batch["reason"]
    again = pc.is_in(batch["key"], value_set=pa.array(sorted(repeats), pa.string()))
    whole = pc.not_equal(pc.fill_null(reasons, ""), TRUNCATED_TAR)
    reasons = pc.if_else(pc.and_(again, whole), REPEATED_KEY, reasons)
    return batch.set_column(ROWS.get_field_index("reason"), "reason", reasons)


def _read(stream: BinaryIO, sample: Sample, reading: ReadOptions) -> CaptionRow:
    """Read the members of a sample that hold captions or name synsets."""
    captions: list[bytes] = []
    named: list[bytes] = []
    reason = None if sample.whole else TRUNCATED_TAR
    reads_fields = any(name.startswith(JSON_FIELD) for name in reading.texts)
    for extension, member in sample.members.items():
        if extension not in reading.texts and not (extension == "json" and reads_fields):
            continue
        if member.size > MAX_MEMBER_BYTES:
            reason = CAPTION_TOO_LONG
            continue
        stream.seek(member.offset)
        content = stream.read(member.size)
        if extension in reading.captions:
            captions.append(content)
        if extension in reading.synsets:
            named.append(content)
        if extension == "json" and reads_fields:
            try:
                record = json.loads(content)
            except (ValueError, RecursionError):
                reason = MALFORMED_RECORD
                continue
            captions += _texts_in(record, reading.captions)
            named += _texts_in(record, reading.synsets)
    if "\ufffd" in sample.key and reason is None:
        reason = NOT_UTF8
    if not captions and not named and reason is None:
        reason = NO_CAPTION
    return CaptionRow(sample.key, captions, named, None, reason)


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


def _texts_in(record: object, columns: Sequence[str]) -> list[bytes]:
    """Texts in the fields of a JSON record that columns name as json.FIELD."""
    fields = [name.removeprefix(JSON_FIELD) for name in columns if name.startswith(JSON_FIELD)]
    return [text for name in fields for text in caption_texts(value_at(record, name))]
