"""Captions to label shards: the story of this room.

In: `Label` options and a Spark session. Out: a finished label directory (vocab/FORMAT.md), and its manifest.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from functools import partial

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from pipeline.captions import read_captions
from pipeline.config import Label
from pipeline.failures import explained
from pipeline.inputs import Inputs, list_inputs
from pipeline.labeling import LoadLabeler, label
from pipeline.writing import (
    check_written,
    describe_files,
    remove_staging,
    removed_on_failure,
    stage,
    write_count_table,
    write_parts,
    write_rejects,
)
from vocab import wordnet
from vocab.errors import InputError
from vocab.label_shards import refuse_used_directory, write_manifest
from vocab.labelers import load_labeler
from vocab.manifest import InputFile, Manifest


def label_captions(spark: SparkSession, options: Label) -> Manifest:
    """Label every caption of the input, once.

    Raises OutputExistsError if the output directory holds anything, InputError for an input that cannot be read or
    whose every row was rejected, FormatError if the account of rows does not close, and what `load_labeler` raises.
    Until the manifest is written, at the very end, the directory is no label directory.
    """
    refuse_used_directory(options.out)
    inputs = list_inputs(options.captions, options.format)
    load = labeler_of(options)
    labeler = load()
    out = options.out.rstrip("/")

    with removed_on_failure(out), explained():
        captions = read_captions(spark, inputs, options)
        rows = stage(add_labels(captions, options.max_caption_bytes, load), out)
        account = account_of_rows(rows, inputs)
        refuse_all_rejected(rows, account)
        labelled, empty, rejected = (sum(getattr(f, n) for f in account) for n in ("labelled", "empty", "rejected"))

        write_parts(rows, out, total=labelled + empty, rows_per_file=options.rows_per_file)
        write_rejects(rows, out)
        write_count_table(rows, out)
        files = describe_files(spark, out)
        check_written(files, written=labelled + empty, rejected=rejected, out=out)

    manifest = Manifest(
        labeler=labeler.name,
        labeler_fingerprint=labeler.fingerprint,
        wordnet=wordnet.load().version,
        files=files,
        rows=sum(file.rows for file in account),
        labelled=labelled,
        empty=empty,
        rejected=rejected,
        inputs=account,
        config=config_of(options) | {"format": inputs.format},
    )
    remove_staging(out)
    write_manifest(out, manifest)
    return manifest


def labeler_of(options: Label) -> LoadLabeler:
    """How to load the labeler that the options name."""
    return partial(load_labeler, options.labeler, spacy_model=options.spacy_model, wordnet=options.wordnet)


def config_of(options: Label) -> dict[str, object]:
    """The options as JSON holds them."""
    return asdict(options) | {"wordnet": None if options.wordnet is None else str(options.wordnet)}


def add_labels(captions: DataFrame, max_caption_bytes: int, load: LoadLabeler) -> DataFrame:
    """input, shard, key, synsets, reason: synsets are null exactly where there is a reason not to label."""
    labelled = captions.withColumn("labelled", label(F.col("captions"), max_caption_bytes, load))
    reason = F.coalesce(F.col("reason"), F.col("labelled.reason"))
    return labelled.select(
        "input",
        "shard",
        "key",
        F.when(reason.isNull(), F.col("labelled.synsets")).alias("synsets"),
        reason.alias("reason"),
    )


def account_of_rows(rows: DataFrame, inputs: Inputs) -> tuple[InputFile, ...]:
    """The input files with what became of their rows; a file without rows keeps its zeros."""
    counted = rows.groupBy("input").agg(
        F.count("*").alias("rows"),
        F.count_if(F.size("synsets") > 0).alias("labelled"),
        F.count_if(F.size("synsets") == 0).alias("empty"),
        F.count_if(F.col("reason").isNotNull()).alias("rejected"),
    )
    found = {row["input"]: row.asDict() for row in counted.collect()}
    account = []
    for file in inputs.files:
        numbers = found.pop(file.path, {})
        numbers.pop("input", None)
        account.append(replace(file, **numbers))
    if found:
        raise InputError(
            next(iter(found)),
            found="rows of a file that was not listed",
            wanted="rows of the listed files only",
            remedy="The input changed while it was read; run again into a new directory.",
        )
    return tuple(account)


def refuse_all_rejected(rows: DataFrame, account: tuple[InputFile, ...]) -> None:
    """Raise InputError if there is no row, or none that could be labelled: the options or the input must be wrong."""
    total = sum(file.rows for file in account)
    rejected = sum(file.rejected for file in account)
    if rejected < total:
        return
    reasons = rows.groupBy("reason").count().orderBy(F.desc("count"), "reason").limit(3).collect()
    raise InputError(
        account[0].path if len(account) == 1 else f"{len(account)} input files",
        found="no rows" if total == 0 else ", ".join(f"{row['count']:,} rows {row['reason']}" for row in reasons),
        wanted="at least one row with a caption",
        remedy="Check --format, --caption-columns and --columns.",
    )
