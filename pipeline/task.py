"""One task of the job: pieces of input files to finished label files. Runs on an executor, and needs no Spark.

In: a `Task`, and the `JobSettings` that all tasks share. Out: files in the output directory, under names that no other
attempt at the task uses, and a `Done` that names them. Files that no `Done` names are left from attempts that died.
"""

from __future__ import annotations

import resource
import sys
from dataclasses import asdict, dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs as pafs
from numpy.typing import NDArray

from pipeline.config import SameKey
from pipeline.counts import Counts, Joins
from pipeline.labels import LoadLabeler, label_and_say_why, named_synsets, with_named
from pipeline.planning import Task
from pipeline.reading.captions import Piece, UnreadableFile, read_piece
from pipeline.reading.row_digest import RowDigest
from pipeline.reading.rows import ReadOptions, broken_file
from pipeline.reject_reasons import NULL_KEY, NULL_SHARD, TRUNCATED_TAR, UNREADABLE_FILE
from pipeline.sorted_files import SortedFile, SortedWriter
from vocab.errors import FormatError, OutputExistsError
from vocab.store.field_types import require_types
from vocab.store.files import filesystem_of, open_stream, write_whole
from vocab.store.label_shards import INPUT, REJECTS_SCHEMA, SCHEMA
from vocab.store.manifest import EMPTY_REASONS, InputFile, LabelFile
from vocab.store.sealing import from_sealed_json, to_sealed_json
from vocab.store.secrets import without_secrets

JOB, PLAN = "_job", "plan.json"
PLAN_HEAD = 256
"""bytes at the beginning of a plan that hold its id"""
REPEATED_KEY_REMEDY = (
    "Give --same-key union where rows are several captions of one image: it gets the union of their labels. "
    "Else name a --key-column that is unique in each shard, or list no input twice."
)


@dataclass(frozen=True)
class JobSettings:
    """Settings that all tasks of a job share."""

    out: str
    reading: ReadOptions
    load: LoadLabeler
    max_caption_bytes: int
    rows_per_file: int
    plan: str
    """id of the plan that the tasks belong to"""
    retries: int = 0
    """how often Spark runs a failed task again"""
    same_key: SameKey = "refuse"
    """treatment of several rows of one (shard, key)"""

    @property
    def schema(self) -> pa.Schema:
        """Columns of the part files."""
        # Where no column names the shard, the shard tells the input file.
        return SCHEMA.append(INPUT) if self.same_key == "union" and self.reading.shard is not None else SCHEMA


@dataclass(frozen=True)
class Done:
    """Record of a finished task: its files, and the account of each input file's rows."""

    plan: str
    """id of the task's plan: in another plan, the same number is another task"""
    task: int
    parts: tuple[SortedFile, ...]
    rejects: tuple[SortedFile, ...]
    counts: LabelFile
    """a file of synset, captions inside JOB"""
    account: tuple[InputFile, ...]
    """path, rows, labelled, empty, rejected, merged, unreadable and digest of each piece, and corrections for joined
    rows; size and time are not filled in: the listing has them"""
    peak_mb: int
    """peak memory, so far, of the process that ran the task"""

    @property
    def rows(self) -> int:
        """Rows read."""
        return sum(file.rows for file in self.account)

    def to_json(self) -> str:
        """Text of the marker file."""
        return to_sealed_json(asdict(self))

    @classmethod
    def from_json(cls, location: str, text: str) -> Done:
        """The inverse of `to_json`. Raises FormatError, which names `location`, for any other text."""
        try:
            content = from_sealed_json(location, text)
            done = cls(
                plan=content["plan"],
                task=content["task"],
                parts=tuple(map(SortedFile.from_json, content["parts"])),
                rejects=tuple(map(SortedFile.from_json, content["rejects"])),
                counts=LabelFile(**content["counts"]),
                account=tuple(InputFile(**file) for file in content["account"]),
                peak_mb=content["peak_mb"],
            )
            files = (*done.parts, *done.rejects)
            for part in (done, done.counts, *done.account, *files, *(each.file for each in files)):
                require_types(part)
            return done
        except (ValueError, KeyError, TypeError) as error:
            raise FormatError(
                location,
                found=f"unreadable content ({error!r})",
                wanted="the marker of a finished task",
                remedy="Remove it: the task is then run again.",
            ) from error


def run_task(task: Task, job: JobSettings, *, attempt: int = 0) -> Done:
    """Label the task's pieces, write its files, then its marker. `attempt`: number of earlier attempts.

    Raises InputError for a fault that stops the whole job, OSError for a remote file that another attempt may be able
    to read, and OutputExistsError if the job has ended meanwhile. No error leaves a part file.
    """
    pa.set_cpu_count(1)
    directory = f"{job.out}/{JOB}"
    counts = Counts()
    joins = Joins(counts) if job.same_key == "union" else None
    account: list[InputFile] = []
    name = f"part-{task.number:05d}"
    with (
        SortedWriter(
            job.out, name, job.schema, rows_per_file=job.rows_per_file, remedy=REPEATED_KEY_REMEDY, joins=joins
        ) as parts,
        SortedWriter(directory, f"rejects-{task.number:05d}", REJECTS_SCHEMA, rows_per_file=sys.maxsize) as rejects,
    ):
        for piece in task.pieces:
            account.append(label_piece(piece, job, parts, rejects, counts, is_last=attempt >= job.retries))
        files = tuple(parts.close())
        if joins is not None:
            account += joins.account({piece.shard: without_secrets(piece.path) for piece in task.pieces})
        done = Done(
            plan=job.plan,
            task=task.number,
            parts=files,
            rejects=tuple(rejects.close()),
            counts=counts.write(directory, f"counts-{task.number:05d}"),
            account=tuple(account),
            peak_mb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10,
        )
        refuse_ended(job.out, job.plan)
    with write_whole(f"{directory}/{marker_name(task.number)}") as file:
        file.write(done.to_json().encode())
    return done


def marker_name(task: int) -> str:
    """Name of a task's completion marker."""
    return f"task-{task:05d}.json"


def refuse_ended(out: str, plan: str) -> None:
    """Raise OutputExistsError unless the directory still has this plan.

    A worker may outlive the run that sent it: another run may have finished the job meanwhile, or begun another one.
    """
    try:
        with open_stream(f"{out}/{JOB}/{PLAN}") as stream:
            head = stream.read(PLAN_HEAD)
    except FileNotFoundError:
        head = b""
    if f'"id": "{plan}"'.encode() not in head:
        raise OutputExistsError(
            out,
            found="another plan, or none",
            wanted=f"this worker's plan, {plan}",
            remedy="None needed: another run finished or replaced this worker's job.",
        )


def label_piece(
    piece: Piece, job: JobSettings, parts: SortedWriter, rejects: SortedWriter, counts: Counts, *, is_last: bool
) -> InputFile:
    """Label one piece and return its account. A file that cannot be read to its end adds one rejected row."""
    labelled = empty = rejected = 0
    why_empty = np.zeros(len(EMPTY_REASONS), dtype=np.int64)
    unreadable = ""
    digest = RowDigest(piece)
    try:
        for batch in read_piece(piece, job.reading):
            digest.add(batch)
            rows = label_batch(batch, piece.shard, job)
            good = rows.filter(pc.is_null(rows["reason"]))
            why_empty += _counts_of_reasons(good)
            good = good.select(SCHEMA.names)
            bad = rows.filter(pc.is_valid(rows["reason"])).select(REJECTS_SCHEMA.names)
            lengths = pc.list_value_length(good["synsets"])
            without = pc.sum(pc.equal(lengths, 0)).as_py() or 0
            labelled, empty, rejected = labelled + len(good) - without, empty + without, rejected + len(bad)
            counts.add(good["synsets"].combine_chunks())
            if INPUT.name in job.schema.names:
                good = good.append_column(INPUT, pa.repeat(without_secrets(piece.path), len(good)))
            parts.add(good)
            if len(bad):
                rejects.add(bad)
                if pc.any(pc.equal(bad["reason"], TRUNCATED_TAR)).as_py():
                    # A tar that breaks off is read like any other; its last sample has this reason.
                    unreadable = "the archive breaks off"
                    if job.reading.strict:
                        raise broken_file(piece.path, unreadable, also=", or leave out --strict")
    except UnreadableFile as error:
        if job.reading.strict:
            raise broken_file(piece.path, error, also=", or leave out --strict") from error
        if not is_last and not isinstance(filesystem_of(piece.path)[0], pafs.LocalFileSystem):
            # Networks fail and recover: a remote file counts as broken once the last attempt has failed.
            raise OSError(f"{without_secrets(piece.path)}: {without_secrets(str(error))}") from error
        unreadable = without_secrets(str(error))
        rejected += 1
        rejects.add(pa.table([[piece.shard], [""], [UNREADABLE_FILE]], schema=REJECTS_SCHEMA))
    return InputFile(
        path=without_secrets(piece.path), size=0, modified="", rows=labelled + empty + rejected,
        labelled=labelled, empty=empty, rejected=rejected, unreadable=unreadable,
        **dict(zip(EMPTY_REASONS, why_empty.tolist(), strict=True)),
        digest="" if unreadable else digest.hexdigest(),
    )  # fmt: skip


def _counts_of_reasons(rows: pa.Table) -> NDArray[np.int64]:
    """[reasons] number of rows without a synset, by `EmptyReason`."""
    empty = rows.filter(pc.equal(pc.list_value_length(rows["synsets"]), 0))
    return np.bincount(np.asarray(empty["why_empty"]), minlength=len(EMPTY_REASONS))


def label_batch(batch: pa.RecordBatch, shard: str, job: JobSettings) -> pa.Table:
    """Label a batch of `rows.ROWS`: shard, key, synsets, reason, why_empty.

    Synsets are null exactly where there is a reason; why_empty is an `EmptyReason` where they are empty.
    """
    reasons = batch.column("reason")
    # Text formats have no null: an empty key means a missing one.
    no_key = pc.equal(pc.fill_null(batch.column("key"), ""), "")
    if no_key.true_count:
        reasons = pc.if_else(no_key, pc.coalesce(reasons, pa.scalar(NULL_KEY)), reasons)
    shards = batch.column("shard")
    if job.reading.shard is not None:
        no_shard = pc.equal(pc.fill_null(shards, ""), "")
        if no_shard.true_count:
            reasons = pc.if_else(no_shard, pc.coalesce(reasons, pa.scalar(NULL_SHARD)), reasons)
    captions = batch.column("captions")
    if reasons.null_count < len(reasons):
        # Rows rejected so far need no labels: of web images, a third could not be downloaded.
        captions = pc.if_else(pc.is_null(reasons), captions, pa.scalar([], captions.type))
    labels, why_empty = label_and_say_why(captions, job.max_caption_bytes, job.load)
    if job.reading.synsets:
        labels = with_named(labels, named_synsets(batch.column("named")), has_captions=bool(job.reading.captions))
    reasons = pc.coalesce(reasons, labels.field("reason"))
    synsets = pc.if_else(pc.is_null(reasons), labels.field("synsets"), pa.scalar(None, labels.field("synsets").type))
    return pa.table(
        {
            "shard": pc.coalesce(shards, pa.scalar(shard)),
            "key": pc.coalesce(batch.column("key"), pa.scalar("")),
            "synsets": synsets,
            "reason": reasons,
            "why_empty": why_empty,
        }
    )
