"""Columns, fields or members that files hold captions in, compared with those that the options name, before a job.

In: the input files, and how they are to be read. Out: nothing, or an error that lists what the first file has.

TSV and CSV say it in their headers (`reading.headers`); here Parquet files say it in their schemas, JSON records in
their fields, and tars in their samples' members.
"""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator
from itertools import islice
from typing import Any, BinaryIO, cast

import pyarrow.fs as pafs
import pyarrow.parquet as pq

from pipeline.reading.coco_captions import records_of
from pipeline.reading.gzip_tars import first_tar_bytes
from pipeline.reading.inputs import Inputs
from pipeline.reading.json_files import HOW_TO_WRITE_LINES, ONE_DOCUMENT
from pipeline.reading.lines import record_of, split_lines, text_blocks
from pipeline.reading.lookahead import Faults, require_names, sampled
from pipeline.reading.nested import has_at
from pipeline.reading.parquet import column_faults, refuse_keys
from pipeline.reading.rows import Reading
from pipeline.reading.stored_formats import PARQUET
from pipeline.reading.tars import FIELD, MAX_MEMBER_BYTES
from vocab.errors import InputError
from vocab.store.files import BROKEN, filesystem_of
from vocab.store.manifest import InputFile
from vocab.store.tar_samples import Sample, samples

BYTES_LOOKED_AT = 64 << 20
"""of text, in all"""
SAMPLES_LOOKED_AT, REMOTE_SAMPLES_LOOKED_AT = 200_000, 2_000
"""of tars, in all; in an object store each costs a request"""
NAMES_SHOWN = 40
ANY = ""
"""name of what a file lacks where one of several names would be enough"""


def require_captions(reading: Reading, inputs: Inputs) -> None:
    """Raise InputError where none of the files looked at holds captions, or synsets, under the names of the reading.

    Raises what `refuse_keys` raises too.
    """
    if reading.format in PARQUET:
        require_names(inputs.files, lambda file: _of_parquet(file, reading))
    elif reading.format in ("jsonl", "coco"):
        share = BYTES_LOOKED_AT // len(sampled(inputs.files))
        require_names(inputs.files, lambda file: _of_records(file, reading, share))
    elif reading.format == "webdataset":
        is_local = isinstance(filesystem_of(inputs.files[0].path)[0], pafs.LocalFileSystem)
        count = (SAMPLES_LOOKED_AT if is_local else REMOTE_SAMPLES_LOOKED_AT) // len(sampled(inputs.files))
        require_names(inputs.files, lambda file: _of_tar(file, reading, count))


def _of_parquet(file: InputFile, reading: Reading) -> Faults | None:
    filesystem, path = filesystem_of(file.path)
    try:
        with filesystem.open_input_file(path) as stream:
            parquet = pq.ParquetFile(stream)
            refuse_keys(parquet, reading, file.path)
            # An empty table without columns says nothing about others.
            schema = parquet.schema_arrow
            return column_faults(schema, reading, file.path) if schema.names else None
    except BROKEN:
        return None


def first_records(path: str, size: int = 1 << 20) -> Iterator[dict[str, Any]]:
    """Records in about the first bytes of a JSONL file. Raises OSError for a file that cannot be read."""
    filesystem, inner = filesystem_of(path)
    with filesystem.open_input_stream(inner) as stream:
        read = 0
        for block, is_last in text_blocks(stream, path):
            for line in split_lines(block).lines.to_pylist():
                fields, reason = record_of(line)
                if reason is None:
                    yield fields
            read += len(block)
            if read >= size or is_last:
                return


def _of_records(file: InputFile, reading: Reading, size: int) -> Faults | None:
    """Look for any of the fields: a record may leave out those that are null."""
    seen: dict[str, None] = {}
    try:
        for fields in first_records(file.path, size) if reading.format == "jsonl" else _of_coco(file.path):
            if any(has_at(fields, name) for name in reading.texts):
                return {}
            seen.update(dict.fromkeys(fields))
        if reading.format == "jsonl" and {"images", "annotations"} <= set(seen):
            return {ANY: _document(file.path)}
        if seen:
            return {ANY: _lacking(file.path, "fields", seen, reading)}
        return {ANY: _document(file.path)} if reading.format == "jsonl" and _is_document(file.path) else None
    except OSError:
        return None


def _of_coco(path: str) -> Iterator[dict[str, Any]]:
    filesystem, inner = filesystem_of(path)
    with filesystem.open_input_stream(inner) as stream:
        yield from (fields for fields, _ in records_of(stream))


def _is_document(path: str) -> bool:
    """Tell a file that begins as JSON does, though its lines are no records."""
    filesystem, inner = filesystem_of(path)
    with filesystem.open_input_stream(inner) as stream:
        head: bytes = stream.read(1 << 10)
    return head.removeprefix(b"\xef\xbb\xbf").lstrip().startswith((b"{", b"["))


def _document(path: str) -> InputError:
    return InputError(path, found=ONE_DOCUMENT, wanted="a JSON record in each line", remedy=HOW_TO_WRITE_LINES)


def _of_tar(file: InputFile, reading: Reading, count: int) -> Faults | None:
    """Look for any of the members: a sample may lack some."""
    filesystem, path = filesystem_of(file.path)
    seen: dict[str, None] = {}
    try:
        with filesystem.open_input_file(path) as stream:
            tar = first_tar_bytes(stream)
            for sample in islice(samples(tar), count):
                fields = _fields(tar, sample) if any(name.startswith(FIELD) for name in reading.texts) else {}
                for name in reading.texts:
                    if name in sample.members or (name.startswith(FIELD) and has_at(fields, name[len(FIELD) :])):
                        return {}
                seen.update(dict.fromkeys([*sample.members, *(f"{FIELD}{name}" for name in fields)]))
    except (tarfile.ReadError, OSError):
        return None
    return {ANY: _lacking(file.path, "members", seen, reading)} if seen else None


def _fields(tar: BinaryIO, sample: Sample) -> dict[str, Any]:
    member = sample.members.get("json")
    if member is None or member.size > MAX_MEMBER_BYTES:
        return {}
    tar.seek(member.offset)
    try:
        fields = json.loads(tar.read(member.size))
    except (ValueError, RecursionError):
        return {}
    return cast(dict[str, Any], fields) if isinstance(fields, dict) else {}


def _lacking(path: str, things: str, seen: dict[str, None], reading: Reading) -> InputError:
    more = f", and {len(seen) - NAMES_SHOWN:,} more" if len(seen) > NAMES_SHOWN else ""
    remedy = "Name those that hold captions with --caption-columns, or synsets with --synset-columns."
    if things == "members":
        remedy += (
            " A field inside of .json is json.FIELD. Where captions follow behind all images, pack the tar again, in "
            "sorted order: tar --sort=name."
        )
    return InputError(
        path,
        found=f"{things} {', '.join(islice(seen, NAMES_SHOWN))}{more}",
        wanted=f"{'captions' if reading.captions else 'synsets'} in {', '.join(reading.texts)}",
        remedy=remedy,
    )
