"""Captions of any stored format as one kind of Spark DataFrame.

In: an `Inputs` and the options. Out: a DataFrame with a row for every row of the input, none dropped:

    input string             the file, as it was listed
    shard string
    key string
    captions array<binary>   the row's captions; bytes, because they may not be UTF-8
    reason string            why the row cannot be labelled, null where it can as far as reading goes
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import ArrayType, BinaryType, StringType

from pipeline import tars
from pipeline.config import Label
from pipeline.inputs import EXTENSION_PATTERN, SCHEME_PATTERN, Inputs
from pipeline.session import one_partition_per_file
from vocab.errors import InputError
from vocab.storage import filesystem_of

COLUMNS = ("input", "shard", "key", "captions", "reason")
KEY_DIGITS = 9
COLUMN_REMEDY = "Name the columns with --caption-columns, --key-column and --shard-column."
# Columns of a text format that this module adds to the record's own.
OWN_COLUMNS = frozenset({"input", "line", "valid", "_corrupt"})


def read_captions(spark: SparkSession, inputs: Inputs, options: Label) -> DataFrame:
    """Read the input files. Raises InputError for a column that is not there."""
    if inputs.format == "webdataset":
        frame = _read_tars(spark, inputs, options)
    elif inputs.format == "tsv":
        frame = _read_tsv(spark, inputs, options)
    elif inputs.format == "csv":
        frame = _read_csv(spark, inputs, options)
    elif inputs.format == "jsonl":
        frame = _read_jsonl(spark, inputs, options)
    else:
        frame = _read_parquet(spark, inputs, options)
    missing = F.when(F.col("key").isNull(), "null_key")
    if options.shard_column is not None:
        missing = missing.when(F.col("shard").isNull(), "null_shard")
    return frame.select(
        "input",
        F.coalesce("shard", _shard_of("input", inputs)).alias("shard"),
        F.coalesce("key", F.lit("")).alias("key"),
        "captions",
        F.coalesce("reason", missing).alias("reason"),
    )


def caption_list(
    frame: DataFrame, columns: tuple[str, ...], *, remedy: str = "Name another --caption-columns."
) -> Column:
    """The captions of several columns, each text or a list of texts, as one array<binary> without nulls."""
    arrays: list[Column] = []
    for name in columns:
        kind = frame.schema[name].dataType
        column = frame[f"`{name}`"]
        if isinstance(kind, (StringType, BinaryType)):
            column = F.array(column)
        elif not (isinstance(kind, ArrayType) and isinstance(kind.elementType, (StringType, BinaryType))):
            raise InputError(
                f"column {name!r}",
                found=f"type {kind.simpleString()}",
                wanted="text, or a list of texts",
                remedy=remedy,
            )
        arrays.append(F.coalesce(column.cast("array<binary>"), F.array().cast("array<binary>")))
    return F.filter(F.concat(*arrays), lambda caption: caption.isNotNull())


def require_columns(frame: DataFrame, names: tuple[str, ...], *, where: str, remedy: str = COLUMN_REMEDY) -> None:
    """Raise InputError, listing the columns there are, if one of `names` is missing."""
    for name in names:
        if name not in frame.columns:
            raise InputError(
                where,
                found=f"columns {', '.join(frame.columns)}",
                wanted=f"a column {name!r}",
                remedy=remedy,
            )


def _read_parquet(spark: SparkSession, inputs: Inputs, options: Label) -> DataFrame:
    sidecars = inputs.format == "img2dataset"
    key = options.key_column or ("key" if sidecars else None)
    captions = options.caption_columns or ("caption",)
    frame = spark.read.parquet(*(file.path for file in inputs.files))
    needed = (*captions, *([key] if key else []), *([options.shard_column] if options.shard_column else []))
    require_columns(frame, needed, where=inputs.files[0].path)
    reason = F.lit(None).cast("string")
    if sidecars and "status" in frame.columns:
        # img2dataset writes a row for every URL; those it could not download have no image to train on.
        reason = F.when(
            ~F.col("status").eqNullSafe("success"), F.concat(F.lit("status:"), F.coalesce("status", F.lit("null")))
        )
    number = F.lpad(F.col("_metadata.row_index").cast("string"), KEY_DIGITS, "0")
    return frame.select(
        _listed_path("_metadata.file_path", inputs),
        (F.col(f"`{key}`").cast("string") if key else number).alias("key"),
        _optional(options.shard_column),
        caption_list(frame, captions).alias("captions"),
        reason.alias("reason"),
    )


def _read_tars(spark: SparkSession, inputs: Inputs, options: Label) -> DataFrame:
    columns = options.caption_columns or ("txt",)
    paths = spark.createDataFrame([(file.path,) for file in inputs.files], "input string")

    def read(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        return tars.read_tars(batches, columns)

    samples = paths.repartition(len(inputs.files), "input").mapInArrow(read, tars.DDL)
    return samples.withColumn("shard", F.lit(None).cast("string"))


def _read_tsv(spark: SparkSession, inputs: Inputs, options: Label) -> DataFrame:
    """Tab-separated lines without quoting, as img2dataset, CC3M and LAION have them."""
    columns = options.columns or tuple(_common_header(inputs).split("\t"))
    _refuse_repeated(columns, where=inputs.files[0].path)
    needed = _needed(options)
    lines = _numbered_lines(spark, inputs)
    if not options.columns:
        lines = lines.where("line > 0").withColumn("line", F.col("line") - 1)
    fields = F.split("value", "\t", -1)
    record = lines.select(
        "input",
        "line",
        F.is_valid_utf8("value").alias("valid"),
        *(F.get(fields, F.lit(place)).alias(name) for place, name in enumerate(columns) if name in needed),
    )
    return _records(record, inputs, options, malformed=F.lit(False))


def _read_jsonl(spark: SparkSession, inputs: Inputs, options: Label) -> DataFrame:
    """One JSON object per line; a caption field may hold a text or a list of texts."""
    captions = options.caption_columns or ("caption",)
    names = dict.fromkeys([*captions, *filter(None, (options.key_column, options.shard_column)), "_corrupt"])
    schema = ", ".join(f"`{name}` string" for name in names)
    parsed = F.from_json("value", schema, {"columnNameOfCorruptRecord": "_corrupt", "mode": "PERMISSIVE"})
    lines = _numbered_lines(spark, inputs).where(F.length(F.trim("value")) > 0)
    record = lines.select("input", "line", F.is_valid_utf8("value").alias("valid"), parsed.alias("record"))
    record = record.select("input", "line", "valid", "record.*")
    # A list stands in a text column as JSON; a caption that only looks like one ("[Explored] dog") stays a text.
    for name in captions:
        text = F.col(f"`{name}`")
        listed = F.when(text.startswith("["), F.from_json(text, "array<string>"))
        record = record.withColumn(name, F.coalesce(listed, F.when(text.isNotNull(), F.array(text))))
    return _records(record, inputs, options, malformed=F.col("_corrupt").isNotNull())


def _read_csv(spark: SparkSession, inputs: Inputs, options: Label) -> DataFrame:
    """Comma-separated values with quotes, which may hold line breaks (RFC 4180)."""
    one_partition_per_file(spark)
    columns = options.columns
    if not columns:
        _common_header(inputs)
    reader = spark.read.options(multiLine=True, escape='"', header=not columns, enforceSchema=True)
    if columns:
        reader = reader.schema(", ".join(f"`{name}` string" for name in columns))
    frame = reader.csv([file.path for file in inputs.files])
    _refuse_repeated(tuple(frame.columns), where=inputs.files[0].path)
    names = [name for name in frame.columns if name in _needed(options)]
    record = _numbered(frame.select(_listed_path("_metadata.file_path", inputs), *(f"`{name}`" for name in names)))
    # The CSV reader decodes text itself and leaves U+FFFD where bytes were not UTF-8.
    broken = F.concat_ws("", *(F.col(f"`{name}`") for name in names)).contains("\ufffd")
    return _records(record.withColumn("valid", ~broken), inputs, options, malformed=F.lit(False))


def _records(record: DataFrame, inputs: Inputs, options: Label, *, malformed: Column) -> DataFrame:
    """Rows of a text format: columns input, line, valid and the record's own."""
    captions = options.caption_columns or ("caption",)
    named = tuple(filter(None, (options.key_column, options.shard_column)))
    require_columns(record.drop("input", "line", "valid"), (*captions, *named), where=inputs.files[0].path)
    number = F.lpad(F.col("line").cast("string"), KEY_DIGITS, "0")
    return record.select(
        "input",
        (F.col(f"`{options.key_column}`") if options.key_column else number).alias("key"),
        _optional(options.shard_column),
        caption_list(record, captions).alias("captions"),
        F.when(~F.col("valid"), "not_utf8").when(malformed, "malformed_record").alias("reason"),
    )


def _numbered_lines(spark: SparkSession, inputs: Inputs) -> DataFrame:
    """input, value (the line's bytes as a string), line (from 0 in each file)."""
    one_partition_per_file(spark)
    # Spark's own default breaks lines at a lone carriage return too, which captions hold.
    frame = spark.read.option("lineSep", "\n").text([file.path for file in inputs.files])
    # Trimming works on bytes; a regular expression would replace those that are not UTF-8 before they are noticed.
    value = F.rtrim("value", F.lit("\r")).alias("value")
    return _numbered(frame.select(_listed_path("_metadata.file_path", inputs), value))


def _numbered(frame: DataFrame) -> DataFrame:
    """Add line: the row's number in its file. The frame's partitions must be whole files."""

    def number(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        current, line = None, 0
        for batch in batches:
            numbers = np.empty(len(batch), dtype=np.int64)
            for row, path in enumerate(batch.column("input").to_pylist()):
                if path != current:
                    current, line = path, 0
                numbers[row] = line
                line += 1
            yield batch.append_column("line", pa.array(numbers))

    columns = ", ".join(f"`{name}` {kind}" for name, kind in frame.dtypes)
    return frame.mapInArrow(number, f"{columns}, line bigint")


def _listed_path(column: str, inputs: Inputs) -> Column:
    """The listed path of Spark's file path, which is a URI with escapes: file:/a%20b -> /a b."""
    escaped = F.replace(F.col(column), F.lit("+"), F.lit("%2B"))
    decoded = F.url_decode(escaped)
    if "://" not in inputs.files[0].path:
        decoded = F.regexp_replace(decoded, SCHEME_PATTERN, "")
    return decoded.alias("input")


def _shard_of(column: str, inputs: Inputs) -> Column:
    """`Inputs.shard_of` in SQL."""
    bare = F.regexp_replace(F.col(column), SCHEME_PATTERN, "")
    if inputs.common_folder is not None:
        inside = F.substr(bare, F.lit(len(inputs.common_folder) + 1))
    else:
        inside = F.regexp_extract(bare, "([^/]*)$", 1)
    return F.regexp_replace(inside, EXTENSION_PATTERN, "")


def _optional(column: str | None) -> Column:
    value = F.col(f"`{column}`").cast("string") if column else F.lit(None).cast("string")
    return value.alias("shard")


def _needed(options: Label) -> set[str]:
    """Columns of the input that the job reads; the others may have any name. Raises InputError for a reserved one."""
    needed = set(options.caption_columns or ("caption",)) | set(
        filter(None, (options.key_column, options.shard_column))
    )
    if clash := needed & OWN_COLUMNS:
        raise InputError(
            f"column {min(clash)!r}",
            found="a name that the job uses itself",
            wanted=f"another name than {', '.join(sorted(OWN_COLUMNS))}",
            remedy="Name the columns otherwise with --columns, or rename this one.",
        )
    return needed


def _refuse_repeated(columns: tuple[str, ...], *, where: str) -> None:
    repeated = [name for name in columns if columns.count(name) > 1]
    if repeated:
        raise InputError(
            where, found=f"two columns {repeated[0]!r}", wanted="different names", remedy="Name them with --columns."
        )


def _common_header(inputs: Inputs) -> str:
    """The first line, which must be the same in every file: columns are found by its names."""
    headers = {_first_line(file.path): file.path for file in reversed(inputs.files)}
    first = _first_line(inputs.files[0].path)
    for header, path in headers.items():
        if header != first:
            raise InputError(
                path,
                found=f"header {header[:200]!r}",
                wanted=f"{first[:200]!r}, as in {inputs.files[0].path}",
                remedy="Label files of another header in a job of their own, or name the columns with --columns.",
            )
    return first


def _first_line(path: str) -> str:
    filesystem, inner = filesystem_of(path)
    with filesystem.open_input_stream(inner) as stream:
        head = b""
        while b"\n" not in head and (block := stream.read(1 << 16)):
            head += block
            if len(head) > 1 << 20:
                break
    line: str = head.split(b"\n", 1)[0].rstrip(b"\r").decode("utf-8-sig", "replace")
    return line
