"""Labels keyed by id to labels keyed by image tars: the story of `python -m pipeline align`.

In: a label directory whose keys are ids, and image tars or sidecars that say which id each sample has. Out: a finished
label directory whose shards and keys are those of the tars, and the number of matches.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from pipeline.align.image_ids import DDL, OWN_KEY, ids_of, list_image_files
from pipeline.align.join import join_by_id, labels_by_id, refuse_contradictions, write_staged
from pipeline.claim import STAGING, finished_manifest, owned, refuse_used, remove_unnamed
from pipeline.config import Align
from pipeline.extension import refuse_meanwhile
from pipeline.failures import explained
from pipeline.finishing import check_written, lost, write_lexicon, write_rejects
from pipeline.label_reading import parquet_rows
from pipeline.planning import rows_of_each
from pipeline.reading.inputs import InputFiles
from pipeline.reject_reasons import NO_LABEL
from pipeline.session import spark_session
from pipeline.sorted_files import SortedFile, SortedWriter, sort_on_spark
from vocab.errors import MismatchError, OutputExistsError
from vocab.pages.text import tell
from vocab.store.files import absolute, filesystem_of, sha256_of
from vocab.store.label_shards import COUNTS, REJECTS, REJECTS_SCHEMA, SCHEMA, LabelShards
from vocab.store.label_writing import describe_file, write_counts, write_manifest
from vocab.store.locations import refuse_unwritable
from vocab.store.manifest import MANIFEST, InputFile, LabelFile, Manifest
from vocab.user_lexicon import lexicon_of

ACCOUNT = ("rows", "labelled", "empty", "rejected")
"""fields of the account; no rows are merged here"""
REPEATED_KEY_REMEDY = "Repack the tar or its sidecar without the repeated key, or leave them out of --images."


@dataclass(frozen=True)
class Matches:
    """Numbers of matches: samples = matched + unmatched + rejected + unusable; labels = used + unused."""

    samples: int
    matched: int
    """samples that get the label of their id"""
    unmatched: int
    """samples with an id that the labels lack: reason no_label"""
    rejected: int
    """samples with an id that was rejected when the captions were labelled; they get the same reason"""
    unusable: int
    """samples without a usable id, key or image: null_id, null_key, status:..., not_utf8, malformed_record,
    truncated_tar, repeated_key"""
    used: int
    """label rows whose id a sample has"""
    unused: int
    """label rows whose id no sample has"""
    repeated_ids: int
    """used ids with several rows in the labels, all equal"""
    shared_ids: int
    """used ids that several samples have"""


def run_align(options: Align) -> None:
    """Align in a session of its own and report the matches."""
    # Spark takes long to start; check first what needs no Spark.
    refuse_unwritable(options.out)
    refuse_used(options.out)
    labels = LabelShards.open(options.labels)
    inputs = list_image_files(options.images, options.id_column)
    with spark_session(options.master, name="catlip align") as spark:
        manifest, matches = align(spark, labels, inputs, options)
    tell("\n".join(summary_lines(manifest, matches, options)) + "\n", to=sys.stdout)


def align(spark: SparkSession, labels: LabelShards, inputs: InputFiles, options: Align) -> tuple[Manifest, Matches]:
    """Write the labels of the images' samples.

    Raises OutputExistsError if the output directory holds anything; InputError for an image file that cannot be read
    and for a sample that comes twice; MismatchError if no id matches or one has two different labels; FormatError if
    the account of rows does not close. The directory becomes a label directory when the manifest is written, at the
    very end. An alignment that died begins anew.
    """
    out = absolute(options.out.rstrip("/"))
    refuse_used(out)
    with owned(out) as owner, explained(), removed_on_failure(out):
        refuse_meanwhile(out, None, None)
        remove_unnamed(out, None)
        joined = join_by_id(
            read_samples(spark, inputs, options.id_column),
            labels_by_id(spark, labels, of_files=options.id_column == OWN_KEY),
        )
        # The join runs once, into staging files; each step below reads only the columns that it needs.
        staged = partial(parquet_rows, spark, f"{out}/{STAGING}", write_staged(joined, f"{out}/{STAGING}"))
        refuse_contradictions(staged("id string, differ boolean"), labels.location)
        account = account_of_files(staged("input string, synsets array<int>, reason string, total bigint"), inputs)
        matches = count_matches(staged("id string, reason string, copies bigint"), labels)
        refuse_no_match(matches, labels, options)

        rows = staged("shard string, key string, synsets array<int>, reason string").where("reason is null")
        kept = rows.select(*SCHEMA.names)
        refused = staged("shard string, key string, reason string").where("reason is not null")
        counted = staged("synsets array<int>")
        ranges = max(1, math.ceil(matches.matched / options.rows_per_file))
        parts = write_ranges(kept, out, "part", SCHEMA, ranges=ranges, remedy=REPEATED_KEY_REMEDY)
        files = [
            write_count_table(counted, out),
            *parts,
            write_reject_file(refused, out),
            *write_lexicon(out, lexicon_of(labels)),
        ]
        manifest = manifest_of(files, account, labels, config_of(options, labels, matches))
        check_written(out, manifest)
        owner.check()
        write_manifest(out, manifest)
        remove_unnamed(out, manifest)
    return manifest, matches


@contextmanager
def removed_on_failure(out: str) -> Iterator[None]:
    """If the block fails, remove its files, unless another run has the directory now."""
    try:
        yield
    except OutputExistsError:
        raise
    except BaseException:
        remove_unnamed(out, finished_manifest(out))
        raise


def read_samples(spark: SparkSession, inputs: InputFiles, id_column: str) -> DataFrame:
    """The rows of every image file, a task for each (`pipeline.align.image_ids`)."""
    files = [(file.path, inputs.shard_of(file.path)) for file in inputs.files]
    return rows_of_each(spark, files, lambda file: ids_of(*file, id_column), DDL)


def account_of_files(rows: DataFrame, inputs: InputFiles) -> tuple[InputFile, ...]:
    """The image files with their accounts. Raises FormatError unless the join kept each row once."""
    counted = rows.groupBy("input").agg(
        F.count("*").alias("rows"),
        F.count_if(F.size("synsets") > 0).alias("labelled"),
        F.count_if(F.size("synsets") == 0).alias("empty"),
        F.count_if(F.col("reason").isNotNull()).alias("rejected"),
        F.max("total").alias("total"),
    )
    found = {row["input"]: row.asDict() for row in counted.collect()}
    for path, numbers in found.items():
        if numbers["rows"] != numbers["total"]:
            raise lost(path, f"{numbers['rows']:,} rows after the join", f"the file's {numbers['total']:,}")
    return tuple(
        replace(file, **{name: found[path][name] for name in ACCOUNT}) if path in found else file
        for file in inputs.files
        for path in [file.public_path]
    )


def count_matches(rows: DataFrame, labels: LabelShards) -> Matches:
    """Count samples and labels by match, from committed rows, so that a task that is run again counts once."""
    has_id, no_label = F.col("id").isNotNull(), F.col("reason") == NO_LABEL
    samples = rows.agg(
        F.count("*").alias("samples"),
        F.count_if(F.col("reason").isNull()).alias("matched"),
        F.count_if(has_id & no_label).alias("unmatched"),
        F.count_if(has_id & F.col("reason").isNotNull() & ~no_label).alias("rejected"),
        F.count_if(~has_id).alias("unusable"),
    )
    by_id = rows.where("copies > 0").groupBy("id").agg(F.max("copies").alias("copies"), F.count("*").alias("samples"))
    ids = by_id.agg(
        F.coalesce(F.sum("copies"), F.lit(0)).alias("used"),
        F.count_if(F.col("copies") > 1).alias("repeated_ids"),
        F.count_if(F.col("samples") > 1).alias("shared_ids"),
    )
    counted = samples.collect()[0].asDict() | ids.collect()[0].asDict()
    return Matches(**counted, unused=labels.manifest.labelled + labels.manifest.empty - counted["used"])


def refuse_no_match(matches: Matches, labels: LabelShards, options: Align) -> None:
    """Raise MismatchError if no sample has a label: the column or the labels must be wrong."""
    if matches.matched:
        return
    raise MismatchError(
        labels.location,
        found=f"no label for any of {matches.samples:,} samples ({matches.unmatched:,} ids without a label, "
        f"{matches.rejected:,} rejected, {matches.unusable:,} samples without a usable id)",
        wanted=f"labels whose keys are the ids of {options.id_column!r}",
        remedy="Check --id-column, and that the captions were labelled with that id as --key-column.",
    )


def write_reject_file(rows: DataFrame, out: str) -> LabelFile:
    """Write shard, key, reason to one sorted file, which exists even without rows."""
    staging = f"{out}/{STAGING}"
    columns = REJECTS_SCHEMA.names
    written = write_ranges(rows.select(*columns), staging, "rejects", REJECTS_SCHEMA, order=columns)
    write_rejects(out, REJECTS, [(staging, file) for file in written])
    return describe_file(out, REJECTS)


def write_ranges(
    rows: DataFrame,
    folder: str,
    prefix: str,
    schema: pa.Schema,
    *,
    ranges: int = 1,
    order: Sequence[str] = ("shard", "key"),
    remedy: str | None = None,
) -> list[LabelFile]:
    """Sort rows on Spark and write each range that holds rows to a file, in order.

    Raises InputError, through Spark, for a (shard, key) of two rows, if there is a `remedy` for it.
    """

    def write(number: int, batches: Iterator[pa.RecordBatch]) -> str:
        name = f"{prefix}-{number:05d}"
        with SortedWriter(folder, name, schema, rows_per_file=sys.maxsize, remedy=remedy) as writer:
            return json.dumps([asdict(file) for file in writer.add_all(batches)])

    texts = sort_on_spark(rows, write, ranges=ranges, order=order)
    return [SortedFile.from_json(file).file for text in texts for file in json.loads(text)]


def write_count_table(rows: DataFrame, out: str) -> LabelFile:
    """Count the synsets: an image that was not downloaded does not count, and one that came twice counts twice."""
    synsets = rows.select(F.explode("synsets").alias("synset"))
    write_counts(out, pa.table(synsets.groupBy("synset").agg(F.count("*").alias("captions")).toArrow()))
    return describe_file(out, COUNTS)


def manifest_of(
    files: list[LabelFile], account: tuple[InputFile, ...], labels: LabelShards, config: dict[str, object]
) -> Manifest:
    """The manifest: labeler and WordNet are those of the captions' labels, totals those of the image files."""
    totals = {name: sum(getattr(file, name) for file in account) for name in ACCOUNT}
    return Manifest(
        labeler=labels.manifest.labeler,
        labeler_fingerprint=labels.manifest.labeler_fingerprint,
        wordnet=labels.manifest.wordnet,
        files=tuple(files),
        inputs=account,
        config=config,
        **totals,
    )


def config_of(options: Align, labels: LabelShards, matches: Matches) -> dict[str, object]:
    """The options, the source of the labels, and the matches."""
    filesystem, root = filesystem_of(labels.location)
    source = {"manifest_sha256": sha256_of(filesystem, f"{root}/{MANIFEST}"), "config": labels.manifest.config}
    return {"verb": "align"} | asdict(options) | {"source": source, "matches": asdict(matches)}


def summary_lines(manifest: Manifest, matches: Matches, options: Align) -> list[str]:
    """The account as lines of text."""
    return [
        f"{options.out}: {manifest.rows:,} rows = {manifest.labelled:,} labelled + {manifest.empty:,} empty + "
        f"{manifest.rejected:,} rejected",
        f"samples: {matches.matched:,} matched, {matches.unmatched:,} with an id that the labels lack, "
        f"{matches.rejected:,} rejected when labelled, {matches.unusable:,} not downloaded or without a usable id",
        f"labels: {matches.used:,} used, {matches.unused:,} without an image; "
        f"{matches.repeated_ids:,} ids of several equal labels, {matches.shared_ids:,} ids of several samples",
    ]
