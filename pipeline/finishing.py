"""Last steps of a job: counts and rejects in one file each, the account of rows, the manifest.

The folder is a finished label directory from the moment its manifest is written; until then it is none, or the old one.
`pipeline.claim` removes files that the manifest does not name.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from itertools import starmap

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from pipeline.counts import add_counts
from pipeline.extension import OWN_SHARDS, Extension
from pipeline.job import JobPlan
from pipeline.reading.inputs import InputFiles
from pipeline.reading.row_digest import digest_of_pieces
from pipeline.rewriting import Rewritten
from pipeline.task import JOB, Done
from vocab.errors import FormatError
from vocab.store.files import filesystem_of, write_whole
from vocab.store.label_shards import COUNTS, LEXICON, REJECTS, REJECTS_SCHEMA, check_file
from vocab.store.label_writing import ROW_GROUP_ROWS, describe_file, write_counts, write_manifest
from vocab.store.manifest import ACCOUNT, EMPTY_REASONS, InputFile, LabelFile, Manifest
from vocab.store.secrets import without_secrets
from vocab.user_lexicon import UserLexicon


def account_of(inputs: Iterable[InputFile], changes: Iterable[InputFile]) -> tuple[InputFile, ...]:
    """The input files with their accounts, each added up over the file's pieces."""
    totals = {file.public_path: file for file in inputs}
    for change in changes:
        path = change.public_path
        file = totals[path]
        sums = {name: getattr(file, name) + getattr(change, name) for name in (*ACCOUNT, *EMPTY_REASONS)}
        totals[path] = replace(file, **sums, unreadable=file.unreadable or change.unreadable)
    return tuple(totals.values())


def with_digests(plan: JobPlan, finished: Iterable[Done]) -> tuple[InputFile, ...]:
    """The plan's input files, with a digest where every piece of a file has one."""
    pieces = Counter(without_secrets(piece.path) for task in plan.tasks for piece in task.pieces)
    digests: dict[str, list[str]] = {}
    for done in finished:
        for piece in done.account:
            # Corrections for joined rows have no digest.
            if piece.digest:
                digests.setdefault(piece.path, []).append(piece.digest)
    return tuple(
        replace(file, digest=digest_of_pieces(found)) if len(found) == pieces[file.public_path] else file
        for file in plan.inputs
        for found in [digests.get(file.public_path, [])]
    )


def write_finished(
    out: str,
    plan: JobPlan,
    finished: Sequence[Done],
    rewritten: Sequence[Rewritten],
    *,
    extension: Extension | None = None,
    lexicon: UserLexicon | None = None,
) -> Manifest:
    """Write counts, rejects and the manifest. Raises FormatError if the account of rows does not close.

    `rewritten`: the part files in order, with corrections of account and counts for joined and removed rows.
    `lexicon`: the user's own words, which the directory keeps.
    """
    base = None if extension is None else extension.base
    generation = 0 if base is None else int(base.config.get("extensions", 0)) + 1
    names = _write_counts_and_rejects(out, finished, rewritten, extension, generation)
    inputs = _whole_account(plan, finished, rewritten, extension)
    totals = {name: sum(getattr(file, name) for file in inputs) for name in ACCOUNT}
    manifest = Manifest(
        labeler=plan.labeler,
        labeler_fingerprint=plan.fingerprint,
        wordnet=plan.wordnet,
        files=(
            *(file.file for each in rewritten for file in each.files),
            *(describe_file(out, name) for name in names),
            *write_lexicon(out, lexicon, base=base),
        ),
        inputs=inputs,
        config=plan.config | _config_of_extension(plan, base, generation),
        **totals,
    )
    check_written(out, manifest)
    write_manifest(out, manifest)
    return manifest


def write_lexicon(out: str, lexicon: UserLexicon | None, *, base: Manifest | None = None) -> list[LabelFile]:
    """Write the lexicon, if there is one, unless the directory that is extended holds it already."""
    held = [] if base is None else [file for file in base.files if file.path == LEXICON]
    if held or lexicon is None:
        return held
    lexicon.write(f"{out}/{LEXICON}")
    return [describe_file(out, LEXICON)]


def _config_of_extension(plan: JobPlan, base: Manifest | None, generation: int) -> dict[str, object]:
    """Number of this extension, and the shards that are named in another way than in the first job."""
    if base is None:
        return {}
    rule = InputFiles(plan.config["format"], (), plan.config["common_folder"])
    own = {without_secrets(piece.path): piece.shard for task in plan.tasks for piece in task.pieces}
    new = {path: shard for path, shard in own.items() if shard != rule.shard_of(path)}
    shards = base.config.get(OWN_SHARDS, {}) | new
    return {"extensions": generation} | ({OWN_SHARDS: shards} if shards else {})


def _write_counts_and_rejects(
    out: str, finished: Sequence[Done], rewritten: Sequence[Rewritten], extension: Extension | None, generation: int
) -> list[str]:
    """Write both for the tasks and the directory that is extended; return the files' names."""
    counts = [(f"{out}/{JOB}", file) for file in [done.counts for done in finished]]
    counts += [(f"{out}/{JOB}", file) for each in rewritten for file in each.counts]
    rejects = [(f"{out}/{JOB}", each.file) for done in finished for each in done.rejects]
    gone: list[str] = []
    if extension is not None:
        old = {_kind(file.path): (out, file) for file in extension.base.files}
        counts, rejects = [*counts, old[COUNTS]], [old[REJECTS], *rejects]
        gone = extension.gone_shards
    names = [_named(name, generation) for name in (COUNTS, REJECTS)]
    added = add_counts(starmap(read_table, counts))
    if (least := pc.min(added["captions"]).as_py() or 0) < 0:
        raise lost(f"{out}/{names[0]}", f"a synset in {least:,} rows", "0 or more")
    write_counts(out, added.filter(pc.not_equal(added["captions"], 0)), name=names[0])
    write_rejects(out, names[1], rejects, gone=gone)
    return names


def _whole_account(
    plan: JobPlan, finished: Sequence[Done], rewritten: Sequence[Rewritten], extension: Extension | None
) -> tuple[InputFile, ...]:
    """All input files of the directory with their accounts."""
    shards = {piece.shard: piece.path for task in plan.tasks for piece in task.pieces}
    changes = [change for done in finished for change in done.account]
    changes += [
        replace(change, path=shards.get(change.path, change.path)) for each in rewritten for change in each.account
    ]
    kept = () if extension is None else extension.kept
    return account_of(sorted((*kept, *with_digests(plan, finished)), key=lambda file: file.public_path), changes)


def check_written(out: str, manifest: Manifest) -> None:
    """Raise FormatError unless the files exist and hold every row that was labelled or rejected."""
    filesystem, root = filesystem_of(out)
    for file in manifest.files:
        info = filesystem.get_file_info(f"{root}/{file.path}")
        if info.type != pafs.FileType.File or info.size != file.bytes:
            raise lost(f"{out}/{file.path}", f"{info.size} bytes", f"{file.bytes:,} bytes")
    parts = sum(file.rows for file in manifest.parts)
    rejects = sum(file.rows for file in manifest.files if _kind(file.path) == REJECTS)
    if (parts, rejects) != (manifest.labelled + manifest.empty, manifest.rejected):
        raise lost(
            out,
            f"{parts:,} label rows and {rejects:,} rejects in the files",
            f"{manifest.labelled + manifest.empty:,} and {manifest.rejected:,}",
        )


def lost(thing: str, found: str, wanted: str) -> FormatError:
    """The error for an account of rows that does not close."""
    return FormatError(
        thing,
        found=found,
        wanted=wanted,
        remedy="Rows were lost or counted twice; write to a new directory, and please report it.",
    )


def write_rejects(out: str, name: str, files: Iterable[tuple[str, LabelFile]], *, gone: Collection[str] = ()) -> None:
    """Write rejects, given as folders and files in them: one file after another, a row group at a time.

    Rows of the shards `gone` are left out of the directory's own file.
    """
    names = pa.array(sorted(gone), pa.string())
    with write_whole(f"{out}/{name}") as file, pq.ParquetWriter(file, REJECTS_SCHEMA, compression="zstd") as writer:
        for folder, described in files:
            filesystem, root = filesystem_of(folder)
            check_file(filesystem, root, described)
            with filesystem.open_input_file(f"{root}/{described.path}") as stream:
                for batch in pq.ParquetFile(stream).iter_batches(ROW_GROUP_ROWS):
                    rows = batch.cast(REJECTS_SCHEMA)
                    if gone and folder == out:
                        rows = rows.filter(pc.invert(pc.is_in(rows["shard"], value_set=names)))
                    writer.write_batch(rows)


def _kind(name: str) -> str:
    """Name without the number of the extension: counts-2.parquet -> counts.parquet."""
    for kind in (COUNTS, REJECTS):
        if name.startswith(kind.removesuffix(".parquet")):
            return kind
    return name


def _named(name: str, generation: int) -> str:
    return name if generation == 0 else name.replace(".parquet", f"-{generation}.parquet")


def read_table(folder: str, file: LabelFile) -> pa.Table:
    """Read a Parquet file that the job wrote. Raises FormatError if its bytes have changed since."""
    filesystem, root = filesystem_of(folder)
    check_file(filesystem, root, file)
    return pq.read_table(f"{root}/{file.path}", filesystem=filesystem, partitioning=None)
