"""Captions to label shards: the story of this room.

In: `Label` options and a Spark session. Out: a finished label directory (vocab/FORMAT.md), and its manifest.

The input files are listed once and cut into tasks. Each task reads some files, labels their captions, writes sorted
part files of its own, and last a small file that marks it as done. Spark runs the tasks in waves, and repeats those
whose executor died. The same command given again goes on with the tasks that are not done. When all are done, their
counts are added up, part files whose ranges overlap are merged, and the manifest makes the folder a label directory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

from pyspark import TaskContext
from pyspark.sql import SparkSession

from pipeline.claim import Owner, owned, refuse_used, remove_rest, remove_unnamed, repeated
from pipeline.config import Label
from pipeline.extension import OWN_SHARDS, Extension, base_of, extension_of, refuse_meanwhile, refuse_other_base
from pipeline.failures import explained
from pipeline.finishing import account_of, write_finished
from pipeline.job import (
    LEXICON,
    JobPlan,
    Markers,
    begun_plan,
    config_of,
    finished_tasks,
    read_as,
    refuse_other_plan,
    write_plan,
)
from pipeline.labels import LoadLabeler
from pipeline.planning import Task, plan_tasks, spans_of, text_of_each
from pipeline.progress import JobProgress
from pipeline.reading.captions import reading_of
from pipeline.reading.inputs import InputFiles, inputs_of
from pipeline.reading.lookahead import summary
from pipeline.reading.row_digest import digests_of
from pipeline.reading.rows import ReadOptions
from pipeline.rewriting import Rewritten, merged, without_shards
from pipeline.sorted_files import overlapping
from pipeline.task import Done, JobSettings, run_task
from pipeline.unlabelled import UnlabelledError, require_labels
from vocab import wordnet
from vocab.errors import CatlipError, OutputExistsError
from vocab.labelers import CaptionLabeler, load_labeler
from vocab.pages.text import tell
from vocab.store.files import absolute
from vocab.store.manifest import InputFile, Manifest
from vocab.user_lexicon import UserLexicon, read_lexicon

TASKS_PER_CORE_AND_WAVE = 16
POLL_SECONDS = 2.0


def label_captions(spark: SparkSession, options: Label) -> Manifest:
    """Label every caption of the input, once.

    Goes on with a job that the same options began on the same files in the output directory. If a finished directory is
    to be extended that holds every file already, nothing is written, and its manifest is returned.

    Raises OutputExistsError if the directory holds anything else or another run is at work in it; MismatchError if a
    file, an option or the labeler has changed since the job began; InputError for input that cannot be read, or whose
    every row was rejected; FormatError if the account of rows does not close; and what `load_labeler` raises.
    """
    out = options.out.rstrip("/")
    # Read before the job, which may take hours: the file may change meanwhile.
    lexicon = user_lexicon(options)
    base, begun = state_of(out, options)
    inputs = inputs_of(options)
    extension: Extension | None = None
    if base is not None:
        extension = compared(base, inputs, options, partial(digests_again, spark, inputs, options))
        tell(f"labels  {extension.summary()}\n")
        inputs = extension.inputs
        if not inputs.files and begun is None:
            return base
    plan, reading = plan_and_reading(spark, options, inputs, begun)
    job = job_of(spark, options, plan, reading)
    tell("".join(f"labels  {line}\n" for line in summary(inputs, reading)))

    with owned(out) as owner, removed_on_failure(job, base):
        refuse_meanwhile(out, base, begun)
        if begun is None:
            remove_unnamed(out, base)
            write_plan(out, plan)
            owner.check()
        with explained():
            finished = run_tasks(spark, plan, job, owner, options)
            account = account_of(plan.inputs, (change for done in finished for change in done.account))
            if note := require_labels(job, account, finished, allowed=options.allow_unlabelled):
                tell(f"labels  {note}\n")
            rewritten = put_in_order(spark, finished, extension, job)
        owner.check()
        manifest = write_finished(out, plan, finished, rewritten, extension=extension, lexicon=lexicon)
        remove_rest(out, manifest)
    return manifest


def look_before(options: Label) -> Manifest | None:
    """Raise what `label_captions` would raise before its first task, as far as this is known without Spark.

    Return the manifest of a finished directory that holds every file already, and say so.
    """
    out = options.out.rstrip("/")
    base, begun = state_of(out, options)
    inputs = inputs_of(options)
    if base is not None and begun is None:
        extension = compared(base, inputs, options, None)
        if not extension.inputs.files:
            tell(f"labels  {extension.summary()}\n")
            return base
    reading_of(options, inputs)
    labeler_of(options)()
    return None


def state_of(out: str, options: Label) -> tuple[Manifest | None, JobPlan | None]:
    """Manifest of the finished directory to extend, and plan of the job to go on with; None for one that is not there.

    Raises what `base_of` raises, and OutputExistsError for a directory that holds anything else.
    """
    base = base_of(out, options)
    begun = begun_plan(out)
    if begun is None and base is None:
        refuse_used(out)
    return base, begun


def compared(
    base: Manifest,
    inputs: InputFiles,
    options: Label,
    digests: Callable[[Sequence[InputFile]], Mapping[str, str]] | None,
) -> Extension:
    """Compare the files with those of a finished directory, and name their shards as there.

    Raises what `refuse_other_base` and `extension_of` raise.
    """
    inputs = replace(inputs, common_folder=base.config.get("common_folder"), own_shards=base.config.get(OWN_SHARDS, {}))
    refuse_other_base(options.out.rstrip("/"), base, plan_of(options, inputs, labeler_of(options)()))
    return extension_of(inputs, base, options, digests)


def digests_again(
    spark: SparkSession, inputs: InputFiles, options: Label, files: Sequence[InputFile]
) -> Mapping[str, str]:
    """Read some of the files again, as when they were labelled, and take the digests of their rows."""
    some = replace(inputs, files=tuple(files))
    reading = reading_of(options, some)
    tasks = cut_into_tasks(spark, some, reading, options)
    describe(spark, "read files again whose time or folder moved")
    with explained():
        return digests_of(spark, tasks, reading)


def plan_and_reading(
    spark: SparkSession, options: Label, inputs: InputFiles, begun: JobPlan | None
) -> tuple[JobPlan, ReadOptions]:
    """The plan of a new job, or the begun one with the given locations, and how its files are read.

    Raises MismatchError if the options, the labeler or the files are not those of the plan that was begun.
    """
    plan = plan_of(options, inputs, labeler_of(options)())
    if begun is not None:
        refuse_other_plan(options.out.rstrip("/"), begun, plan)
        return read_as(begun, inputs.files), reading_of(options, inputs)
    reading = reading_of(options, inputs)
    return replace(plan, tasks=cut_into_tasks(spark, inputs, reading, options)), reading


def plan_of(options: Label, inputs: InputFiles, labeler: CaptionLabeler) -> JobPlan:
    """The plan of these options and files, still without tasks."""
    lexicon = user_lexicon(options)
    return JobPlan(
        config=config_of(options)
        | {"format": inputs.format, "common_folder": inputs.common_folder}
        | ({} if lexicon is None else {LEXICON: lexicon.about()}),
        labeler=labeler.name,
        fingerprint=labeler.fingerprint,
        wordnet=wordnet.load().version,
        inputs=inputs.files,
        tasks=(),
    )


def labeler_of(options: Label) -> LoadLabeler:
    """A function that loads the labeler that the options name."""
    load = partial(load_labeler, options.labeler, spacy_model=options.spacy_model, wordnet=options.wordnet)
    # The entries travel, because workers may not see the file.
    return load if (lexicon := user_lexicon(options)) is None else partial(load, lexicon=lexicon)


def user_lexicon(options: Label) -> UserLexicon | None:
    """The user's own words, or None."""
    return None if options.lexicon is None else read_lexicon(options.lexicon)


def cut_into_tasks(spark: SparkSession, inputs: InputFiles, reading: ReadOptions, options: Label) -> tuple[Task, ...]:
    """The tasks of a new job."""
    describe(spark, "number the lines of large text files")
    spans = spans_of(spark, inputs, reading)
    cores = spark.sparkContext.defaultParallelism
    return plan_tasks(inputs, cores=cores, task_bytes=options.task_bytes, spans=spans)


def job_of(spark: SparkSession, options: Label, plan: JobPlan, reading: ReadOptions) -> JobSettings:
    """The part of the job that travels to every task."""
    return JobSettings(
        absolute(options.out.rstrip("/")), reading, labeler_of(options), options.max_caption_bytes,
        options.rows_per_file, plan.id, retries=retries_of(spark), same_key=options.same_key,
    )  # fmt: skip


def retries_of(spark: SparkSession) -> int:
    """How often Spark runs a failed task again: never on a local master."""
    conf = spark.sparkContext.getConf()
    if str(conf.get("spark.master")).startswith("local"):
        return 0
    return int(conf.get("spark.task.maxFailures") or 4) - 1


@contextmanager
def removed_on_failure(job: JobSettings, base: Manifest | None) -> Iterator[None]:
    """If an error of ours ends the block before it has work worth keeping, leave room for the corrected command.

    Tasks that labelled something are kept, unless the job is refused for what it labelled; so are the files of `base`.
    """
    try:
        yield
    except OutputExistsError:
        # Another run has the directory now: nothing in it is this run's to remove.
        raise
    except CatlipError as error:
        kept = any(done.parts for done in finished_tasks(job.out, job.plan).values())
        if not kept or isinstance(error, UnlabelledError):
            remove_rest(job.out, base)
        raise


def run_tasks(spark: SparkSession, plan: JobPlan, job: JobSettings, owner: Owner, options: Label) -> list[Done]:
    """Run the tasks that are not done, wave by wave; return the record of every task, in order."""
    finished = finished_tasks(job.out, job.plan)
    pending = [task for task in plan.tasks if task.number not in finished]
    progress = JobProgress(plan.tasks, log=options.log)
    progress.found(finished.values())
    if finished:
        tell(f"labels  {len(finished):,} of {len(plan.tasks):,} tasks were done before; going on\n")
    progress.note("begin", tasks=len(plan.tasks), found_done=len(finished), inputs=len(plan.inputs))
    size = TASKS_PER_CORE_AND_WAVE * max(1, spark.sparkContext.defaultParallelism)
    waves = [pending[start : start + size] for start in range(0, len(pending), size)]
    for number, wave in enumerate(waves, start=1):
        progress.wave = f"wave {number} of {len(waves)}"
        describe(spark, f"label: {progress.wave}, tasks {wave[0].number} to {wave[-1].number}")
        with watched(job, progress):
            for done in run_wave(spark, wave, job):
                finished[done.task] = done
                progress.task_done(done)
        owner.check()
        progress.note("wave", wave=number, waves=len(waves), tasks=len(wave))
        progress.show(always=number == len(waves))
    return [finished[task.number] for task in plan.tasks]


def run_wave(spark: SparkSession, wave: Sequence[Task], job: JobSettings) -> list[Done]:
    """Run a wave as one Spark job, a partition for each task.

    Spark runs a task whose executor died again; it writes files of other names.
    """

    def run(task: Task) -> str:
        context = TaskContext.get()
        return run_task(task, job, attempt=0 if context is None else context.attemptNumber()).to_json()

    texts = text_of_each(spark, wave, run, most_tasks=len(wave))
    return [Done.from_json(f"{job.out}: a task", text) for text in texts]


@contextmanager
def watched(job: JobSettings, progress: JobProgress) -> Iterator[None]:
    """Show the progress of the wave while the block runs."""
    markers = Markers(job.out, job.plan)

    def show() -> None:
        for done in markers.new():
            progress.task_done(done)
        progress.show()

    with repeated(show, seconds=POLL_SECONDS):
        yield


def put_in_order(
    spark: SparkSession, finished: Sequence[Done], extension: Extension | None, job: JobSettings
) -> list[Rewritten]:
    """Merge part files that overlap, of the tasks and of the directory that is extended.

    Rows of changed input files are taken out of the directory's own part files.
    """
    parts = [part for done in finished for part in done.parts]
    removed: list[Rewritten] = []
    if extension is not None:
        describe(spark, "take out the rows of changed files")
        held = without_shards(spark, extension.base.parts, extension.gone_shards, job)
        parts += held.files
        removed = [replace(held, files=())]
    describe(spark, "merge")
    return removed + [merged(spark, group, job) for group in overlapping(parts)]


def describe(spark: SparkSession, jobs: str) -> None:
    """Name the jobs that follow on Spark's own pages."""
    spark.sparkContext.setJobDescription(jobs)
