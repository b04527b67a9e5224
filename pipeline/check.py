"""Labels against image tars: a story that ends in a table, and in an error where training would go wrong.

In: a label directory and tars. Out: a `Report`: the account of every tar, and the labels whose shard has no tar.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from dataclasses import asdict, dataclass

from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from pipeline.config import Check
from pipeline.failures import explained
from pipeline.label_reading import shard_sizes
from pipeline.reading.inputs import list_inputs
from pipeline.reading.stored_formats import refuse_compressed
from pipeline.session import spark_session
from pipeline.tar_account import DDL, TarAccount, account_tars
from pipeline.terminal import table
from vocab.errors import InputError, MismatchError
from vocab.pages.text import shown, tell
from vocab.store.files import filesystem_of, sha256_of, write_whole
from vocab.store.label_shards import LabelShards
from vocab.store.locations import Location, make_folder_of, refuse_taken
from vocab.store.manifest import MANIFEST

# A task for each tar up to here; beyond, Spark's own work for a task outweighs a tar's.
MOST_TASKS = 10_000
SHOWN_SHARDS = 10
COLUMNS = ("samples", "labelled", "rejected", "missing", "surplus", "repeated", "truncated", "tar")
LEGEND = "missing: not in the labels; surplus: labels without a sample; repeated: samples whose key the tar has twice"


@dataclass(frozen=True)
class Report:
    """What came of the comparison."""

    labels: str
    tars: tuple[TarAccount, ...]
    """sorted by path"""
    absent_shards: int
    """shards of the labels that have no tar"""
    absent_rows: int
    """their rows"""
    first_absent: tuple[str, ...]
    """the first of them by name"""
    label_rows: int
    """rows in the labels' part files"""

    def total(self, field: str) -> int:
        """Sum of a number over all tars."""
        return sum(getattr(tar, field) for tar in self.tars)

    @property
    def missing_share(self) -> float:
        """Share of the samples that the labels do not know; 0 where there are none."""
        return self.total("missing") / max(1, self.total("samples"))

    @property
    def surplus_share(self) -> float:
        """Share of the label rows without a sample, shards without a tar included; 0 where there are none."""
        return (self.total("surplus") + self.absent_rows) / max(1, self.label_rows)


def run_check(options: Check) -> None:
    """Compare in a session of its own, print the table, write the JSON file, and end in an error if they do not fit."""
    if options.out is not None:
        refuse_taken(options.out)
    # Starting Spark takes longer than finding out that it cannot work.
    tars = [file.path for file in list_inputs(options.images, "webdataset").files]
    refuse_compressed(tars, gzip_is_read=False)
    labels = LabelShards.open(options.labels)
    with spark_session(options.master, name="catlip check") as spark:
        report = compare(spark, labels, tars)
    tell("\n".join(told(report, worst=options.worst)) + "\n", to=sys.stdout)
    if options.out is not None:
        write_report(report, options, options.out)
    refuse_misfit(report, max_missing=options.max_missing, max_surplus=options.max_surplus)


def compare(spark: SparkSession, labels: LabelShards, tars: list[str]) -> Report:
    """The account of every tar, a task for each, and of the labels that belong to none."""
    filesystem, root = filesystem_of(labels.location)
    account = account_tars(labels.location, sha256_of(filesystem, f"{root}/{MANIFEST}"))
    paths = spark.createDataFrame([(tar,) for tar in tars], "tar string").repartition(min(len(tars), MOST_TASKS))
    with explained():
        found = paths.mapInArrow(account, DDL).toArrow().to_pylist()
        accounts = tuple(sorted((TarAccount(**row) for row in found), key=lambda tar: tar.tar))
        shards = {tar.shard for tar in accounts if tar.shard is not None}
        count, rows, first = rows_without_tar(spark, labels, shards)
    label_rows = sum(file.rows for file in labels.manifest.files if file.path.startswith("part-"))
    return Report(labels.location, accounts, count, rows, first, label_rows)


def rows_without_tar(spark: SparkSession, labels: LabelShards, shards: set[str]) -> tuple[int, int, tuple[str, ...]]:
    """How many shards of the labels are not among `shards`, how many rows they have, and the first of their names."""
    claimed = spark.createDataFrame([(shard,) for shard in sorted(shards)], "shard string")
    absent = shard_sizes(spark, labels).join(claimed, "shard", "left_anti")
    totals = absent.agg(F.count("*").alias("shards"), F.coalesce(F.sum("rows"), F.lit(0)).alias("rows")).collect()[0]
    first = absent.orderBy("shard").limit(SHOWN_SHARDS).collect() if totals["shards"] else []
    return totals["shards"], totals["rows"], tuple(row["shard"] for row in first)


def told(report: Report, *, worst: int) -> list[str]:
    """The report in lines: totals, the tars that fit worst, and labels without a tar."""
    lines = [
        f"{len(report.tars):,} tars, {report.total('samples'):,} samples: {report.total('labelled'):,} with a label, "
        f"{report.total('rejected'):,} rejected when labelled, {report.total('missing'):,} missing from the labels "
        f"({report.missing_share:.2%})",
        f"{report.labels}: {report.label_rows:,} labels, {report.total('surplus'):,} without a sample in their tar, "
        f"{report.absent_rows:,} in {report.absent_shards:,} shards without a tar "
        f"({report.surplus_share:.2%} together)",
    ]
    if absent := report.total("absent_rejects"):
        lines.append(f"rejected rows without a sample, such as failed downloads: {absent:,}; that is no fault")
    bad = sorted((tar for tar in report.tars if faults_of(tar)), key=badness)
    if not bad:
        lines.append("every tar fits its labels")
    else:
        rows = [[*(getattr(tar, name) for name in COLUMNS[:6]), *last_cells(tar)] for tar in bad[:worst]]
        which = f"the worst {worst:,} of {len(bad):,} tars" if len(bad) > worst else "tars"
        lines += ["", f"{which} that do not fit ({LEGEND}):", *table([COLUMNS, *rows])]
    if report.first_absent:
        more = ", ..." if report.absent_shards > len(report.first_absent) else ""
        lines += ["", f"shards without a tar: {', '.join(map(shown, report.first_absent))}{more}"]
    return lines


def last_cells(tar: TarAccount) -> tuple[str, str]:
    """The columns truncated and tar, with what else is to be said about it."""
    note = "no shard of its name in the labels" if tar.shard is None else None
    if reason := tar.unreadable or note:
        return "yes" if tar.truncated else "", f"{tar.tar}: {reason}"
    return "yes" if tar.truncated else "", tar.tar


def faults_of(tar: TarAccount) -> int:
    """How many samples or labels of a tar do not fit, and whether it is damaged."""
    return tar.missing + tar.surplus + tar.repeated + tar.truncated + (tar.unreadable is not None)


def badness(tar: TarAccount) -> tuple[bool, int, str]:
    """Sorts the worst first: unreadable, then by faults, then by name."""
    return tar.unreadable is None, -faults_of(tar), tar.tar


def refuse_misfit(report: Report, *, max_missing: float, max_surplus: float) -> None:
    """Raise an error where the trainer would stop, or the shares are exceeded.

    Truncated tars and repeated keys alone raise none: the trainer passes over such samples and says so.
    """
    if unreadable := [tar for tar in report.tars if tar.unreadable is not None]:
        others = f", and {len(unreadable) - 1:,} more such files" if len(unreadable) > 1 else ""
        raise InputError(
            unreadable[0].tar,
            found=f"{unreadable[0].unreadable}{others}",
            wanted="WebDataset tars",
            remedy="Download them again, or leave them out of --images.",
        )
    owners = Counter(str(tar.shard) for tar in report.tars if tar.shard is not None)
    if shared := [tar for tar in report.tars if owners[str(tar.shard)] > 1]:
        raise MismatchError(
            f"shard {str(shared[0].shard)!r}",
            found=f"{owners[str(shared[0].shard)]:,} tars of this shard, {shared[0].tar} among them",
            wanted="one tar for each shard",
            remedy="Label the folders in one job, so that their shards are told apart by path.",
        )
    if report.missing_share > max_missing:
        raise MismatchError(
            report.labels,
            found=f"no row for {report.total('missing'):,} of {report.total('samples'):,} samples",
            wanted=wanted_share("a row", max_missing),
            remedy="Label the captions of these tars too, or raise --max-missing. Labels whose keys are ids must be "
            "aligned with the tars first: python -m pipeline align.",
        )
    if report.surplus_share > max_surplus:
        raise MismatchError(
            report.labels,
            found=f"{report.total('surplus') + report.absent_rows:,} of {report.label_rows:,} labels without a sample",
            wanted=wanted_share("a sample", max_surplus),
            remedy="Add the missing tars to --images or download them again, or raise --max-surplus.",
        )


def wanted_share(thing: str, most: float) -> str:
    """What an error asks for."""
    return f"{thing} for each" if most == 0 else f"{thing} for all but {most:.2%}"


def write_report(report: Report, options: Check, out: Location) -> None:
    """Everything as JSON, the resolved options with it."""
    sums = ("samples", "labelled", "rejected", "missing", "surplus", "absent_rejects", "repeated", "truncated")
    content = {
        "config": asdict(options) | {"out": str(out)},
        "totals": {name: report.total(name) for name in sums}
        | {"tars": len(report.tars), "labels": report.label_rows}
        | {"missing_share": report.missing_share, "surplus_share": report.surplus_share},
        "labels_without_tar": {
            "shards": report.absent_shards,
            "rows": report.absent_rows,
            "first": report.first_absent,
        },
        "tars": [asdict(tar) for tar in report.tars],
    }
    make_folder_of(out)
    with write_whole(out) as file:
        file.write((json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode())
