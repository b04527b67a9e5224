"""Ids of downloaded images: in img2dataset's sidecars, in .json members of tars, or the samples' own keys.

Every row of a sidecar, or sample of a tar, gives a row:

    input string    the file, as it was listed
    shard string    the tar's
    key string      the sample's key in it; "" if it is null
    id string       null if there is a reason
    reason string   reason why it gets no label whatever its id: status:..., null_key, null_id, not_utf8,
                    malformed_record, truncated_tar, repeated_key
    total bigint    rows of the whole file, to check that none is lost
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator, Set
from contextlib import contextmanager
from typing import BinaryIO, cast

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from pipeline.reading.inputs import InputFiles, NoInputError, list_inputs
from pipeline.reading.key_text import NO_TEXT, require_name_type, text_of, texts_of
from pipeline.reading.nested import value_at
from pipeline.reading.parquet import KEY, STATUS, require_key_type, status_reasons
from pipeline.reading.stored_formats import refuse_compressed
from pipeline.reading.tars import JSON_FIELD, json_fields
from pipeline.reject_reasons import MALFORMED_RECORD, NOT_UTF8, NULL_ID, NULL_KEY, REPEATED_KEY, TRUNCATED_TAR
from vocab.errors import InputError
from vocab.store.file_names import is_left_out
from vocab.store.files import BROKEN, filesystem_of, open_file
from vocab.store.secrets import without_secrets
from vocab.store.tars import Sample, samples

SCHEMA = pa.schema(
    [*((name, pa.string()) for name in ("input", "shard", "key", "id", "reason")), ("total", pa.int64())]
)
DDL = "input string, shard string, key string, id string, reason string, total bigint"
OWN_KEY = "__key__"
"""WebDataset's name for a sample's key"""
BATCH_ROWS = 16_384


def ids_of(path: str, shard: str, id_column: str) -> Iterator[pa.RecordBatch]:
    """The rows of one file. Raises InputError for one that cannot be read or lacks a column."""
    if is_of_tars(id_column):
        yield from _ids_of_tar(path, shard, id_column)
    else:
        yield from _ids_of_sidecar(path, shard, id_column)


def is_of_tars(id_column: str) -> bool:
    """Tell an id that tars hold from a column of sidecars."""
    return id_column == OWN_KEY or id_column.startswith(JSON_FIELD)


def _ids_of_sidecar(path: str, shard: str, id_column: str) -> Iterator[pa.RecordBatch]:
    with _opened(path, id_column) as file:
        wanted = dict.fromkeys([KEY, id_column, *([STATUS] if STATUS in file.schema_arrow.names else [])])
        for batch in file.iter_batches(BATCH_ROWS, columns=list(wanted)):
            yield _sidecar_rows(path, shard, batch, id_column, file.metadata.num_rows)


@contextmanager
def _opened(path: str, id_column: str) -> Iterator[pq.ParquetFile]:
    """Open a sidecar. Raises InputError for one that cannot be read or lacks a column."""
    try:
        with open_file(path) as stream:
            file = pq.ParquetFile(stream)
            _require(path, file.schema_arrow, id_column)
            yield file
    except BROKEN as error:
        raise InputError(
            path,
            found=f"a file that cannot be read ({error})",
            wanted="img2dataset's sidecar, a Parquet file",
            remedy="Download it again, or leave it and its tar out of --images.",
        ) from error


def _require(path: str, schema: pa.Schema, id_column: str) -> None:
    for name in (KEY, id_column):
        if name not in schema.names:
            raise InputError(
                path,
                found=f"columns {', '.join(schema.names)}",
                wanted=f"a column {name!r}",
                remedy="Name the sidecars' column of the id with --id-column, or leave other files out of --images.",
            )
        if schema.names.count(name) > 1:
            raise InputError(
                path, found=f"two columns {name!r}", wanted="different names", remedy="Rename one of them."
            )
        require_name_type(schema.field(name).type, where=f"{path}, column {name!r}")
    require_key_type(schema.field(KEY).type, where=path)


def _sidecar_rows(path: str, shard: str, batch: pa.RecordBatch, id_column: str, total: int) -> pa.RecordBatch:
    """Rows of a sidecar. A sample is downloaded, has a key, and has an id; the first that fails is the reason."""
    (keys, broken_keys), (ids, broken_ids) = (
        texts_of(batch[name], where=f"{path}, column {name!r}") for name in (KEY, id_column)
    )
    failed = status_reasons(batch[STATUS]) if STATUS in batch.schema.names else pa.nulls(len(batch), pa.string())
    no_key, no_id = (pc.equal(pc.fill_null(names, ""), "") for names in (keys, ids))
    reason = pc.case_when(
        pc.make_struct(pc.is_valid(failed), broken_keys, no_key, broken_ids, no_id),
        failed,
        *(NOT_UTF8, NULL_KEY, NOT_UTF8, NULL_ID, NO_TEXT),
    )
    return _batch(path, shard, pc.fill_null(keys, ""), pc.if_else(pc.is_null(reason), ids, NO_TEXT), reason, total)


def _ids_of_tar(path: str, shard: str, id_column: str) -> Iterator[pa.RecordBatch]:
    rows: list[tuple[str, str | None, str | None]] = []
    repeats: Set[str] = frozenset()
    try:
        with open_file(path) as stream:
            for sample in samples(cast(BinaryIO, stream)):
                repeats = sample.repeats
                rows.append((sample.key, *_id_of_sample(cast(BinaryIO, stream), sample, id_column)))
    except tarfile.ReadError as error:
        raise InputError(
            path, found=f"no tar ({error})", wanted="a WebDataset tar", remedy="Download it again, or leave it out."
        ) from error
    if repeats:
        rows = [
            (key, None, REPEATED_KEY) if key in repeats and reason != TRUNCATED_TAR else (key, id_, reason)
            for key, id_, reason in rows
        ]
    # The number of samples is known only at the end of a tar; keys and ids are small enough to hold.
    for start in range(0, len(rows), BATCH_ROWS):
        keys, ids, reasons = (
            pa.array(column, pa.string()) for column in zip(*rows[start : start + BATCH_ROWS], strict=True)
        )
        yield _batch(path, shard, keys, ids, reasons, len(rows))


def _id_of_sample(stream: BinaryIO, sample: Sample, id_column: str) -> tuple[str | None, str | None]:
    """The sample's id, or the reason why it has none."""
    if not sample.whole:
        return None, TRUNCATED_TAR
    if "\ufffd" in sample.key:
        return None, NOT_UTF8
    if id_column == OWN_KEY:
        return sample.key, None
    member = sample.members.get("json")
    if member is None:
        return None, NULL_ID
    record = json_fields(stream, member)
    if record is None:
        return None, MALFORMED_RECORD
    text, reason = text_of(value_at(record, id_column.removeprefix(JSON_FIELD)))
    return text, NULL_ID if text is None and reason is None else reason


def _batch(path: str, shard: str, keys: pa.Array, ids: pa.Array, reasons: pa.Array, total: int) -> pa.RecordBatch:
    same = [pa.array([text] * len(keys), pa.string()) for text in (without_secrets(path), shard)]
    return pa.RecordBatch.from_arrays(
        [*same, keys, ids, reasons, pa.array([total] * len(keys), pa.int64())], schema=SCHEMA
    )


def list_image_files(locations: tuple[str, ...], id_column: str) -> InputFiles:
    """List sidecars, or tars if the tars hold the ids.

    Raises InputError for a location without such files, and for a sidecar without a tar or a tar without a sidecar:
    labels follow tars, so a sidecar alone names no images, and a tar alone would get no labels.
    """
    if is_of_tars(id_column):
        tars = list_inputs(locations, "webdataset")
        refuse_compressed([file.path for file in tars.files], gzip_is_read=False)
        return tars
    try:
        sidecars = list_inputs(locations, "img2dataset")
    except NoInputError as error:
        raise InputError(
            error.thing,
            found=error.found,
            wanted=f"img2dataset's sidecars, whose column {id_column!r} holds the id",
            remedy="Check --images; where the tars themselves hold the id, give --id-column json.FIELD.",
        ) from error
    with _opened(sidecars.files[0].path, id_column):
        # A mistyped column is better reported now than by a job.
        pass
    _require_pairs(sidecars)
    return sidecars


def _require_pairs(sidecars: InputFiles) -> None:
    """Raise InputError for a sidecar without its tar, and for a tar without a sidecar in the sidecars' folders."""
    folders = {file.path.rpartition("/")[0] for file in sidecars.files}
    held = {folder: _names(folder) for folder in folders}
    for file in sidecars.files:
        folder, _, name = file.path.rpartition("/")
        tar = name.removesuffix(".parquet") + ".tar"
        if tar not in held[folder]:
            raise InputError(
                file.path,
                found=f"no {tar} beside it",
                wanted="a sidecar and its tar, as img2dataset writes them",
                remedy="Download the tar again, or leave this file out of --images.",
            )
    for folder in sorted(folders):
        for tar in sorted(name for name in held[folder] if name.endswith(".tar") and not is_left_out(name)):
            if f"{tar.removesuffix('.tar')}.parquet" not in held[folder]:
                raise InputError(
                    f"{folder}/{tar}",
                    found="no sidecar beside it",
                    wanted=f"{tar.removesuffix('.tar')}.parquet, as img2dataset writes it",
                    remedy="Download it again, or take the ids from the tars: --id-column json.FIELD or __key__.",
                )


def _names(folder: str) -> set[str]:
    filesystem, path = filesystem_of(folder)
    return {info.base_name for info in filesystem.get_file_info(pafs.FileSelector(path))}
