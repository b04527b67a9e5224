"""What the tasks wrote to a finished label directory: counts and rejects in one file each, the account, the manifest.

In: what every task did (`Done`), and the manifest that is extended, if one is. Out: the manifest, the moment it is
written: before it, the directory is no label directory, or is the one it was. What it does not name, `pipeline.remains`
removes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import starmap

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from pipeline.job import Plan
from pipeline.runs import Run
from pipeline.task import JOB, Done, add_counts
from vocab.errors import FormatError
from vocab.label_shards import COUNTS, REJECTS, REJECTS_SCHEMA, check_file
from vocab.label_writing import ROW_GROUP_ROWS, describe_file, write_counts, write_manifest
from vocab.manifest import InputFile, LabelFile, Manifest
from vocab.storage import filesystem_of, write_whole

ACCOUNT = ("rows", "labelled", "empty", "rejected")


def account_of(plan: Plan, finished: Iterable[Done]) -> tuple[InputFile, ...]:
    """The input files with what became of their rows, added up over the pieces of each."""
    totals = {file.path: file for file in plan.inputs}
    for done in finished:
        for piece in done.account:
            file = totals[piece.path]
            sums = {name: getattr(file, name) + getattr(piece, name) for name in ACCOUNT}
            totals[piece.path] = replace(file, **sums, unreadable=file.unreadable or piece.unreadable)
    return tuple(totals.values())


def write_finished(
    out: str, plan: Plan, finished: Sequence[Done], parts: Sequence[Run], *, base: Manifest | None
) -> Manifest:
    """Write counts, rejects and the manifest. Raises FormatError if the account of rows does not close."""
    account = account_of(plan, finished)
    generation = 0 if base is None else int(base.config.get("extensions", 0)) + 1
    old = {_kind(file.path): file for file in base.files} if base is not None else {}
    counts_name, rejects_name = (_named(name, generation) for name in (COUNTS, REJECTS))

    counts = [(f"{out}/{JOB}", done.counts) for done in finished] + ([(out, old[COUNTS])] if old else [])
    write_counts(out, add_counts(starmap(read_table, counts)), name=counts_name)
    rejects = [(f"{out}/{JOB}", run.file) for done in finished for run in done.rejects]
    _write_rejects(out, rejects_name, ([(out, old[REJECTS])] if old else []) + rejects)

    totals = {name: sum(getattr(file, name) for file in account) for name in ACCOUNT}
    inputs = account
    if base is not None:
        totals = {name: totals[name] + getattr(base, name) for name in ACCOUNT}
        inputs = tuple(sorted((*base.inputs, *account), key=lambda file: file.path))
    files = (
        *(run.file for run in parts), describe_file(out, counts_name), describe_file(out, rejects_name),
    )  # fmt: skip
    manifest = Manifest(
        labeler=plan.labeler,
        labeler_fingerprint=plan.fingerprint,
        wordnet=plan.wordnet,
        files=files,
        inputs=inputs,
        config=plan.config | ({"extensions": generation} if generation else {}),
        **totals,
    )
    check_written(out, manifest)
    write_manifest(out, manifest)
    return manifest


def check_written(out: str, manifest: Manifest) -> None:
    """Raise FormatError unless the files are there and hold every row that was labelled or rejected."""
    filesystem, root = filesystem_of(out)
    for file in manifest.files:
        info = filesystem.get_file_info(f"{root}/{file.path}")
        if info.type != pafs.FileType.File or info.size != file.bytes:
            raise _lost(f"{out}/{file.path}", f"{info.size} bytes", f"{file.bytes:,} bytes")
    parts = sum(file.rows for file in manifest.files if file.path.startswith("part-"))
    rejects = sum(file.rows for file in manifest.files if _kind(file.path) == REJECTS)
    if (parts, rejects) != (manifest.labelled + manifest.empty, manifest.rejected):
        raise _lost(
            out,
            f"{parts:,} label rows and {rejects:,} rejects in the files",
            f"{manifest.labelled + manifest.empty:,} and {manifest.rejected:,}",
        )


def _lost(thing: str, found: str, wanted: str) -> FormatError:
    return FormatError(
        thing,
        found=found,
        wanted=wanted,
        remedy="Rows were lost or written twice; remove the directory and run again, and please report it.",
    )


def _write_rejects(out: str, name: str, files: Iterable[tuple[str, LabelFile]]) -> None:
    """Write rejects, given as folders and files in them: one file after another, a row group at a time."""
    with write_whole(f"{out}/{name}") as file, pq.ParquetWriter(file, REJECTS_SCHEMA, compression="zstd") as writer:
        for folder, described in files:
            filesystem, root = filesystem_of(folder)
            check_file(filesystem, root, described)
            with filesystem.open_input_file(f"{root}/{described.path}") as stream:
                for batch in pq.ParquetFile(stream).iter_batches(ROW_GROUP_ROWS):
                    writer.write_batch(batch.cast(REJECTS_SCHEMA))


def _kind(name: str) -> str:
    """The name without the number of the extension: counts-2.parquet -> counts.parquet."""
    for kind in (COUNTS, REJECTS):
        if name.startswith(kind.removesuffix(".parquet")):
            return kind
    return name


def _named(name: str, generation: int) -> str:
    return name if generation == 0 else name.replace(".parquet", f"-{generation}.parquet")


def read_table(folder: str, file: LabelFile) -> pa.Table:
    """Read a Parquet file that the job wrote. Raises FormatError if its bytes are not those that were written."""
    filesystem, root = filesystem_of(folder)
    check_file(filesystem, root, file)
    return pq.read_table(f"{root}/{file.path}", filesystem=filesystem, partitioning=None)
