"""A look at some files before a job: whether they hold captions, synsets and keys under the names in the options.

Files are sampled, and the look ends at the first that has everything: a corpus may have a hundred thousand files in an
object store. If only some files lack the names, their tasks reject their rows. Names are columns in the schema of
Parquet files, fields of JSON records, and members of a tar's samples; `reading.dialects` finds them in the headers of
TSV and CSV files.
"""

from __future__ import annotations

import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from pipeline.config import Label
from pipeline.reading.gzip_files import first_tar_bytes
from pipeline.reading.inputs import InputFiles
from pipeline.reading.json_captions import record_of, records_of
from pipeline.reading.lines import split_lines, text_blocks
from pipeline.reading.nested import has_at
from pipeline.reading.parquet import ERROR, KEY, STATUS, SUCCESS, column_faults, has_sidecar_columns, refuse_keys
from pipeline.reading.rows import ReadOptions
from pipeline.reading.stored_formats import HOW_TO_WRITE_LINES, LINE_FORMATS, ONE_DOCUMENT, PARQUET
from pipeline.reading.tars import JSON_FIELD, json_fields
from vocab.errors import InputError
from vocab.store.files import BROKEN, filesystem_of, open_file, open_stream
from vocab.store.manifest import InputFile
from vocab.store.tars import samples

MAX_FILES = 32

Faults = Mapping[str, InputError]
"""errors by name that a file lacks; empty for a file that has all names"""


def sampled(files: Sequence[InputFile]) -> list[InputFile]:
    """Some files, evenly spread over all, the first among them; empty files only if all are empty."""
    return spread([file for file in files if file.size] or files, MAX_FILES)


def spread(files: Sequence[InputFile], most: int) -> list[InputFile]:
    """At most so many files, evenly spread over all, the first and the last among them."""
    return [files[at] for at in np.unique(np.linspace(0, len(files) - 1, most).round().astype(int))]


def require_names(files: Sequence[InputFile], look: Callable[[InputFile], Faults | None]) -> bool:
    """Raise InputError for a name that none of the sampled files has; tell whether any could be read.

    `look` gives None for a file that cannot be read, which its task will report.
    """
    missing: Faults | None = None
    for file in sampled(files):
        faults = look(file)
        if faults is None:
            continue
        missing = faults if missing is None else {name: missing[name] for name in missing if name in faults}
        if not missing:
            return True
    for error in (missing or {}).values():
        raise error
    return missing is not None


BYTES_LOOKED_AT = 64 << 20
"""bytes of text looked at in all files"""
SAMPLES_LOOKED_AT, REMOTE_SAMPLES_LOOKED_AT = 200_000, 2_000
"""samples of tars looked at in all files; in an object store each costs a request"""
NAMES_SHOWN = 40
ANY = ""
"""key of Faults that stands for several names, any one of which is enough"""


def require_captions(reading: ReadOptions, inputs: InputFiles) -> None:
    """Raise InputError if none of the sampled files holds captions or synsets under the names in the options.

    Also raises what `refuse_keys` raises.
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


def _of_parquet(file: InputFile, reading: ReadOptions) -> Faults | None:
    try:
        with open_file(file.path) as stream:
            parquet = pq.ParquetFile(stream)
            refuse_keys(parquet, reading, file.path)
            # A table without columns says nothing about other files.
            schema = parquet.schema_arrow
            return column_faults(schema, reading, file.path) if schema.names else None
    except BROKEN:
        return None


def first_records(path: str, size: int = 1 << 20) -> Iterator[dict[str, Any]]:
    """Records in roughly the first `size` bytes of a JSONL file. Raises OSError for a file that cannot be read."""
    with open_stream(path) as stream:
        read = 0
        for block, is_last in text_blocks(stream, path):
            for line in split_lines(block).lines.to_pylist():
                fields, reason = record_of(line)
                if reason is None:
                    yield fields
            read += len(block)
            if read >= size or is_last:
                return


def _of_records(file: InputFile, reading: ReadOptions, size: int) -> Faults | None:
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
    with open_stream(path) as stream:
        yield from (fields for fields, _ in records_of(stream))


def _is_document(path: str) -> bool:
    """Tell a file that begins like JSON, though its lines are not records."""
    with open_stream(path) as stream:
        head: bytes = stream.read(1 << 10)
    return head.removeprefix(b"\xef\xbb\xbf").lstrip().startswith((b"{", b"["))


def _document(path: str) -> InputError:
    return InputError(path, found=ONE_DOCUMENT, wanted="a JSON record in each line", remedy=HOW_TO_WRITE_LINES)


def _of_tar(file: InputFile, reading: ReadOptions, count: int) -> Faults | None:
    """Look for any of the members: a sample may lack some."""
    reads_fields = any(name.startswith(JSON_FIELD) for name in reading.texts)
    seen: dict[str, None] = {}
    try:
        with open_file(file.path) as stream:
            tar = first_tar_bytes(stream)
            for sample in islice(samples(tar), count):
                member = sample.members.get("json") if reads_fields else None
                fields = {} if member is None else json_fields(tar, member) or {}
                for name in reading.texts:
                    if name in sample.members or (
                        name.startswith(JSON_FIELD) and has_at(fields, name[len(JSON_FIELD) :])
                    ):
                        return {}
                seen.update(dict.fromkeys([*sample.members, *(f"{JSON_FIELD}{name}" for name in fields)]))
    except (tarfile.ReadError, OSError):
        return None
    return {ANY: _lacking(file.path, "members", seen, reading)} if seen else None


def _lacking(path: str, things: str, seen: dict[str, None], reading: ReadOptions) -> InputError:
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


KEY_COLUMNS = ("key", "__key__")
"""names that WebDataset and its tools give to a sample's key"""


def summary(inputs: InputFiles, reading: ReadOptions) -> list[str]:
    """Lines that say how the files are read: format, keys, and files left out although they look like captions."""
    own = {"webdataset": "the samples' own", "coco": "the images' names"}
    keys = f"keys: {own.get(inputs.format, 'numbers of the rows')}"
    if reading.key is not None:
        keys = f"keys: column {reading.key!r}"
    failed = "; failed downloads are rejected" if inputs.format == "img2dataset" else ""
    lines = [f"{len(inputs.files):,} {inputs.format} {'file' if len(inputs.files) == 1 else 'files'}; {keys}{failed}"]
    if inputs.left_out:
        count, example = f"{len(inputs.left_out):,}", inputs.left_out[0]
        lines.append(f"left out as hidden, unfinished or of an ending that is not read: {count}, such as {example}")
    return lines


def refuse_unused_key(reading: ReadOptions, options: Label, inputs: InputFiles) -> None:
    """Raise InputError if row numbers would be keys although the input plainly has keys of its own.

    A named --format says that row numbers are wanted; but never for img2dataset's sidecars, whose rows have no order.
    """
    names = reading.columns or _names_of_fields(inputs)
    where, is_auto = inputs.files[0].path, options.format == "auto"
    if inputs.format in LINE_FORMATS and has_sidecar_columns(names) and (is_auto or options.key_column is None):
        raise InputError(
            where,
            found=f"img2dataset's columns {KEY}, {STATUS} and {ERROR} in a file of format {inputs.format}",
            wanted="the Parquet sidecars themselves, whose failed downloads are rejected",
            remedy=f"Give those; or leave out rows whose {STATUS} is not {SUCCESS!r}, and give "
            f"--format {inputs.format} --key-column {KEY}.",
        )
    # Data warehouses write names of columns in capitals.
    unused = [name for name in names if name.strip().casefold() in KEY_COLUMNS]
    if options.same_key == "union" and reading.key is None and inputs.format in ("parquet", *LINE_FORMATS):
        raise InputError(
            "--same-key union",
            found="no --key-column: keys would be row numbers, of which each belongs to one row",
            wanted="a column that names each row's image",
            remedy="Give --key-column, such as image or image_id.",
        )
    if unused and is_auto and options.key_column is None and inputs.format != "img2dataset":
        raise InputError(
            where,
            found=f"a column {unused[0]!r}, and no --key-column",
            wanted="an option that names the samples' keys",
            remedy=f"Give --key-column {unused[0]}; or --format {inputs.format}, to use row numbers as keys.",
        )


def _names_of_fields(inputs: InputFiles) -> Sequence[str]:
    """Columns of the first Parquet file that can be read, or fields of the first JSON record; none for a tar.

    A broken file is passed over: its task will report it.
    """
    if inputs.format == "jsonl":
        try:
            return tuple(next(iter(first_records(inputs.files[0].path)), {}))
        except OSError:
            return ()
    for file in inputs.files if inputs.format in PARQUET else ():
        try:
            with open_file(file.path) as stream:
                names: list[str] = pq.ParquetFile(stream).schema_arrow.names
                return names
        except BROKEN:
            continue
    return ()
