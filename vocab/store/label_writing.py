"""Writing label shards: whole directories, and the single files of a job's directory, each whole or not at all."""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from vocab.errors import InputError, OutputExistsError
from vocab.store.files import filesystem_of, sha256_of, write_whole
from vocab.store.label_shards import COUNTS, COUNTS_SCHEMA, REJECTS, REJECTS_SCHEMA, SCHEMA, shard_range
from vocab.store.manifest import MANIFEST, LabelFile, Manifest

# Small row groups let a reader fetch one tar's rows (about 10,000) without decoding the rest of a large file.
ROW_GROUP_ROWS = 50_000


def write_label_shards(
    directory: str | Path,
    rows: pa.Table,
    *,
    labeler: str,
    fingerprint: str,
    rejects: pa.Table | None = None,
    parts: int = 1,
    config: dict[str, Any] | None = None,
) -> Manifest:
    """Write a whole label directory from one table of shard, key, synsets: for small corpora, tests and conversions.

    Raises OutputExistsError if the directory holds anything, InputError for rows the format does not allow. The
    directory appears under its name only when it is complete (local file systems).
    """
    refuse_used_directory(directory)
    rows = rows.select(SCHEMA.names).cast(SCHEMA).sort_by([("shard", "ascending"), ("key", "ascending")])
    check_rows(rows)
    rejects = (rejects if rejects is not None else REJECTS_SCHEMA.empty_table()).select(REJECTS_SCHEMA.names)
    target = Path(directory)
    work = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
    work.mkdir(parents=True)
    names = [f"part-{number:05d}.parquet" for number in range(parts)]
    bounds = np.linspace(0, len(rows), parts + 1).astype(int)
    for name, start, stop in zip(names, bounds[:-1], bounds[1:], strict=True):
        with write_whole(work / name) as file:
            pq.write_table(rows.slice(start, stop - start), file, compression="zstd", row_group_size=ROW_GROUP_ROWS)
    with write_whole(work / REJECTS) as file:
        pq.write_table(rejects.cast(REJECTS_SCHEMA), file, compression="zstd")
    write_counts(work, count_synsets(rows))
    empty = int(pc.sum(pc.equal(pc.list_value_length(rows["synsets"]), 0)).as_py() or 0)
    manifest = Manifest(
        labeler=labeler,
        labeler_fingerprint=fingerprint,
        wordnet="3.0",
        files=tuple(describe_file(work, name) for name in [*names, COUNTS, REJECTS]),
        rows=len(rows) + len(rejects),
        labelled=len(rows) - empty,
        empty=empty,
        rejected=len(rejects),
        config=config or {},
    )
    write_manifest(work, manifest)
    if target.exists():
        target.rmdir()
    work.rename(target)
    return manifest


def refuse_used_directory(directory: str | Path) -> None:
    """Raise OutputExistsError if the location for a label directory holds anything."""
    filesystem, root = filesystem_of(directory)
    if filesystem.get_file_info(root).type == pafs.FileType.File:
        held = "a file"
    else:
        names = sorted(
            info.base_name for info in filesystem.get_file_info(pafs.FileSelector(root, allow_not_found=True))
        )
        if not names:
            return
        held = "a finished label directory" if MANIFEST in names else f"{len(names)} entries, {names[0]!r} among them"
    raise OutputExistsError(
        directory,
        found=held,
        wanted="an empty or new directory",
        remedy="Choose another output directory, or remove this one first.",
    )


def check_rows(rows: pa.Table) -> None:
    """Raise InputError unless (shard, key) is unique and without nulls, and synsets are unique and ascending.

    `rows` must be sorted by (shard, key).
    """
    faults: list[str] = []
    for name in SCHEMA.names:
        if rows[name].null_count:
            faults.append(f"{rows[name].null_count} nulls in {name}")
    if len(rows) > 1 and not faults:
        pairs: Sequence[tuple[str, str]] = list(zip(rows["shard"].to_pylist(), rows["key"].to_pylist(), strict=True))
        faults += [f"{b!r} twice" for a, b in itertools.pairwise(pairs) if a == b][:1]
    if not faults:
        lists = rows["synsets"].to_pylist()
        faults = [f"synsets {s}" for s in lists if any(a >= b for a, b in itertools.pairwise(s))][:1]
    if faults:
        raise InputError(
            "label rows",
            found="; ".join(faults),
            wanted="unique (shard, key), and synsets unique and ascending",
            remedy="Merge rows of one sample into one, and sort its synsets.",
        )


def describe_file(location: str | Path, name: str) -> LabelFile:
    """The manifest's entry for one data file, read back from where it was written."""
    filesystem, path = filesystem_of(f"{location}/{name}")
    with filesystem.open_input_file(path) as file:
        metadata = pq.ParquetFile(file).metadata
        first, last = shard_range(metadata)
        size = file.size()
    return LabelFile(
        path=name,
        rows=metadata.num_rows,
        first_shard=first,
        last_shard=last,
        bytes=size,
        sha256=sha256_of(filesystem, path),
    )


def write_counts(directory: str | Path, counts: pa.Table, *, name: str = COUNTS) -> None:
    """Write counts.parquet, sorted by synset, so that the same counts give the same bytes."""
    with write_whole(f"{directory}/{name}") as file:
        pq.write_table(
            counts.select(COUNTS_SCHEMA.names).cast(COUNTS_SCHEMA).sort_by("synset"), file, compression="zstd"
        )


def write_manifest(directory: str | Path, manifest: Manifest) -> None:
    """Write manifest.json, the last file of a label directory."""
    content = manifest.to_json().encode()
    with write_whole(f"{directory}/{MANIFEST}") as file:
        file.write(content)


def count_synsets(rows: pa.Table) -> pa.Table:
    """How many rows hold each synset, of rows in the format's schema."""
    counts = pc.value_counts(rows["synsets"].combine_chunks().flatten())
    return pa.table([counts.field("values"), counts.field("counts")], schema=COUNTS_SCHEMA)
