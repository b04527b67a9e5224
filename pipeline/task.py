"""One task of the job: pieces of input files to finished label files. Runs on an executor, needs no Spark.

In: a `Task`, and the `Job` that all tasks share. Out: its files in the output directory, under names that no other try
of the same task uses, and a `Done` that names them. Whoever holds the `Done` believes it; files that no `Done` in use
names are of a try that died, and nobody's.
"""

from __future__ import annotations

import resource
import secrets
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from itertools import islice

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from pipeline.captions import Piece, UnreadableFile, read_piece
from pipeline.labels import LoadLabeler, label_lists
from pipeline.named_synsets import named_synsets, with_named
from pipeline.planning import Task
from pipeline.rows import Reading
from pipeline.runs import Run, RunWriter
from pipeline.tars import TRUNCATED
from vocab.errors import FormatError, InputError, OutputExistsError
from vocab.label_shards import COUNTS_SCHEMA, REJECTS_SCHEMA, SCHEMA
from vocab.label_writing import describe_file
from vocab.manifest import InputFile, LabelFile
from vocab.sealing import from_sealed_json, to_sealed_json
from vocab.storage import filesystem_of, write_whole

JOB, PLAN = "_job", "plan.json"
PLAN_HEAD = 256
"""bytes at the beginning of a plan that hold its id"""
UNREADABLE = "unreadable_file"
ADDED_AT_ONCE = 32
"""tables of counts that are held to be added up"""


@dataclass(frozen=True)
class Job:
    """What all tasks share."""

    out: str
    reading: Reading
    load: LoadLabeler
    max_caption_bytes: int
    rows_per_file: int
    plan: str
    """which plan the tasks are of"""
    retries: int = 0
    """times that Spark runs a task again which failed"""


@dataclass(frozen=True)
class Done:
    """What a finished task wrote, and what became of each file's rows."""

    plan: str
    """the plan that the task is of: the same number means another task in another plan"""
    task: int
    parts: tuple[Run, ...]
    rejects: tuple[Run, ...]
    counts: LabelFile
    """a file of synset, captions inside JOB"""
    account: tuple[InputFile, ...]
    """path, rows, labelled, empty, rejected, unreadable; size and time are the listing's"""
    peak_mb: int
    """memory of the process that ran it, at its peak so far"""

    @property
    def rows(self) -> int:
        """Rows read."""
        return sum(file.rows for file in self.account)

    def to_json(self) -> str:
        """As the marker file has it."""
        content = {
            "plan": self.plan,
            "task": self.task,
            "parts": [run.to_json() for run in self.parts],
            "rejects": [run.to_json() for run in self.rejects],
            "counts": asdict(self.counts),
            "account": [asdict(file) for file in self.account],
            "peak_mb": self.peak_mb,
        }
        return to_sealed_json(content)

    @classmethod
    def from_json(cls, place: str, text: str) -> Done:
        """The inverse of `to_json`. Raises FormatError for anything else, found at `place`."""
        try:
            content = from_sealed_json(place, text)
            return cls(
                plan=content["plan"],
                task=content["task"],
                parts=tuple(map(Run.from_json, content["parts"])),
                rejects=tuple(map(Run.from_json, content["rejects"])),
                counts=LabelFile(**content["counts"]),
                account=tuple(InputFile(**file) for file in content["account"]),
                peak_mb=content["peak_mb"],
            )
        except (ValueError, KeyError, TypeError) as error:
            raise FormatError(
                place,
                found=f"unreadable content ({error!r})",
                wanted="the marker of a finished task",
                remedy="Remove it: the task is then run again.",
            ) from error


def run_task(task: Task, job: Job, *, attempt: int = 0) -> Done:
    """Label the task's pieces, write its files, then its marker; `attempt`: times that it was tried before.

    Raises InputError for what stops the whole job, OSError for a remote file that another try may be able to read, and
    OutputExistsError if the job ended meanwhile; no error leaves a part file.
    """
    pa.set_cpu_count(1)
    directory = f"{job.out}/{JOB}"
    counts = Counts()
    account: list[InputFile] = []
    with (
        RunWriter(job.out, f"part-{task.number:05d}", SCHEMA, rows_per_file=job.rows_per_file) as parts,
        RunWriter(
            directory, f"rejects-{task.number:05d}", REJECTS_SCHEMA, rows_per_file=sys.maxsize, unique=False
        ) as rejects,
    ):
        for piece in task.pieces:
            account.append(label_piece(piece, job, parts, rejects, counts, is_last=attempt >= job.retries))
        done = Done(
            plan=job.plan,
            task=task.number,
            parts=tuple(parts.close()),
            rejects=tuple(rejects.close()),
            counts=counts.write(directory, task.number),
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
    """Raise OutputExistsError unless the plan is still the directory's: a worker may outlive the run that sent it.

    A next run may have finished the job, or begun another one, while such a worker was writing.
    """
    filesystem, path = filesystem_of(f"{out}/{JOB}/{PLAN}")
    try:
        with filesystem.open_input_stream(path) as stream:
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
    piece: Piece, job: Job, parts: RunWriter, rejects: RunWriter, counts: Counts, *, is_last: bool
) -> InputFile:
    """Label one piece; its account. A file that cannot be read, or not to its end, is one rejected row more."""
    labelled = empty = rejected = 0
    unreadable = ""
    try:
        for batch in read_piece(piece, job.reading):
            rows = label_batch(batch, piece.shard, job)
            good = rows.filter(pc.is_null(rows["reason"])).select(SCHEMA.names)
            bad = rows.filter(pc.is_valid(rows["reason"])).select(REJECTS_SCHEMA.names)
            lengths = pc.list_value_length(good["synsets"])
            without = pc.sum(pc.equal(lengths, 0)).as_py() or 0
            labelled, empty, rejected = labelled + len(good) - without, empty + without, rejected + len(bad)
            parts.add(good)
            counts.add(good["synsets"])
            if len(bad):
                rejects.add(bad)
                if pc.any(pc.equal(bad["reason"], TRUNCATED)).as_py():
                    # A tar that breaks off is read like any other, and its last sample says so.
                    unreadable = "the archive breaks off"
                    if job.reading.strict:
                        raise _unreadable(piece, unreadable)
    except UnreadableFile as error:
        if job.reading.strict:
            raise _unreadable(piece, str(error)) from error
        if not is_last and not isinstance(filesystem_of(piece.path)[0], pafs.LocalFileSystem):
            # Networks fail and recover; a file is given up for broken when no try can read it.
            raise OSError(f"{piece.path}: {error}") from error
        unreadable = str(error)
        rejected += 1
        rejects.add(pa.table([[piece.shard], [""], [UNREADABLE]], schema=REJECTS_SCHEMA))
    return InputFile(
        path=piece.path, size=0, modified="", rows=labelled + empty + rejected,
        labelled=labelled, empty=empty, rejected=rejected, unreadable=unreadable,
    )  # fmt: skip


def _unreadable(piece: Piece, why: str) -> InputError:
    return InputError(
        piece.path,
        found=f"a file that cannot be read ({why})",
        wanted="a whole file of the format that its name tells",
        remedy="Download it again, or leave it out of --captions, or leave out --strict.",
    )


def label_batch(batch: pa.RecordBatch, shard: str, job: Job) -> pa.Table:
    """shard, key, synsets, reason of a batch of `rows.ROWS`; synsets are null exactly where there is a reason."""
    reasons = batch.column("reason")
    # Text formats have no null: an empty key means a missing one.
    no_key = pc.equal(pc.fill_null(batch.column("key"), ""), "")
    if no_key.true_count:
        reasons = pc.if_else(no_key, pc.coalesce(reasons, pa.scalar("null_key")), reasons)
    shards = batch.column("shard")
    if job.reading.shard is not None:
        no_shard = pc.equal(pc.fill_null(shards, ""), "")
        if no_shard.true_count:
            reasons = pc.if_else(no_shard, pc.coalesce(reasons, pa.scalar("null_shard")), reasons)
    captions = batch.column("captions")
    if reasons.null_count < len(reasons):
        # What is rejected already need not be labelled: of web images, the third that could not be downloaded.
        captions = pc.if_else(pc.is_null(reasons), captions, pa.scalar([], captions.type))
    labels = label_lists(captions, job.max_caption_bytes, job.load)
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
        }
    )


class Counts:
    """How many captions hold each synset, added up as batches pass by."""

    def __init__(self) -> None:
        self._held: list[pa.Table] = []

    def add(self, synsets: pa.ChunkedArray) -> None:
        """Take one batch's lists, whose synsets are unique, so that each row counts once for each."""
        counted = pc.value_counts(synsets.combine_chunks().flatten())
        self._held.append(pa.table([counted.field("values"), counted.field("counts")], schema=COUNTS_SCHEMA))
        if len(self._held) >= ADDED_AT_ONCE:
            self._held = [self.table()]

    def table(self) -> pa.Table:
        """synset, captions; sorted."""
        return add_counts(self._held)

    def write(self, directory: str, task: int) -> LabelFile:
        """Write them to a file with a name of its own; the file."""
        name = f"counts-{task:05d}-{secrets.token_hex(4)}.parquet"
        with write_whole(f"{directory}/{name}") as file:
            pq.write_table(self.table(), file, compression="zstd")
        return describe_file(directory, name)


def add_counts(tables: Iterable[pa.Table]) -> pa.Table:
    """The sum of tables of synset, captions; sorted by synset. Only some are held at a time, however many there are."""
    left = iter(tables)
    total = COUNTS_SCHEMA.empty_table()
    while some := list(islice(left, ADDED_AT_ONCE)):
        every = pa.concat_tables([total, *some])
        summed = every.group_by("synset").aggregate([("captions", "sum")]).rename_columns(COUNTS_SCHEMA.names)
        total = summed.cast(COUNTS_SCHEMA)
    return total.sort_by("synset")
