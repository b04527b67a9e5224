"""Comparison of labels with image tars: the story of `python -m pipeline check`.

In: a label directory and tars. Out: a `Comparison`: the account of every tar, and the labels whose shard has no tar; a
table of it; and an error if training on them would go wrong. Of a tar only the headers are read, and of the labels only
the row groups that can hold its shard.
"""

from __future__ import annotations

import json
import sys
import tarfile
from collections import Counter
from collections.abc import Set
from dataclasses import asdict, dataclass
from functools import cache
from typing import BinaryIO, cast

from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from pipeline.config import Check
from pipeline.failures import explained
from pipeline.label_reading import shard_sizes
from pipeline.planning import text_of_each
from pipeline.reading.inputs import list_inputs
from pipeline.reading.stored_formats import refuse_compressed
from pipeline.session import spark_session
from vocab.errors import InputError, MismatchError
from vocab.pages.tables import terminal_table
from vocab.pages.text import counted, shown, tell
from vocab.store.files import absolute, filesystem_of, open_file, sha256_of, write_whole
from vocab.store.label_shards import LabelShards, possible_shards
from vocab.store.locations import Location, make_folder_of, refuse_taken
from vocab.store.manifest import MANIFEST
from vocab.store.secrets import public, without_secrets
from vocab.store.tars import samples

SHOWN_SHARDS = 10
COLUMNS = ("samples", "labelled", "rejected", "missing", "surplus", "repeated", "truncated", "tar")
LEGEND = "missing: not in the labels; surplus: labels without a sample; repeated: samples whose key the tar has twice"


@dataclass(frozen=True)
class Comparison:
    """Accounts of all tars, and labels that belong to none."""

    labels: str
    tars: tuple[TarAccount, ...]
    """sorted by path"""
    absent_shards: int
    """shards of the labels that have no tar"""
    absent_rows: int
    """rows of these shards"""
    first_absent: tuple[str, ...]
    """names of the first of these shards"""
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
    """Compare in a session of its own, print the table, write the JSON file, and raise an error if they do not fit."""
    if options.out is not None:
        refuse_taken(options.out)
    # Spark takes long to start; check first what needs no Spark.
    tars = [file.path for file in list_inputs(options.images, "webdataset").files]
    refuse_compressed(tars, gzip_is_read=False)
    labels = LabelShards.open(options.labels)
    with spark_session(options.master, name="catlip check") as spark:
        report = compare(spark, labels, tars)
    tell("\n".join(summary_lines(report, worst=options.worst)) + "\n", to=sys.stdout)
    if options.out is not None:
        write_report(report, options, options.out)
    refuse_misfit(report, max_missing=options.max_missing, max_surplus=options.max_surplus)


def compare(spark: SparkSession, labels: LabelShards, tars: list[str]) -> Comparison:
    """Account for every tar, in a task for each, and for the labels that belong to none."""
    filesystem, root = filesystem_of(labels.location)
    location, manifest = absolute(labels.location), sha256_of(filesystem, f"{root}/{MANIFEST}")

    def account(tar: str) -> str:
        return json.dumps(asdict(account_tar(tar, open_labels(location, manifest))))

    with explained():
        found = [json.loads(text) for text in text_of_each(spark, tars, account)]
        accounts = tuple(sorted((TarAccount(**fields) for fields in found), key=lambda tar: tar.tar))
        shards = {tar.shard for tar in accounts if tar.shard is not None}
        count, rows, first = rows_without_tar(spark, labels, shards)
    label_rows = sum(file.rows for file in labels.manifest.parts)
    return Comparison(without_secrets(labels.location), accounts, count, rows, first, label_rows)


def rows_without_tar(spark: SparkSession, labels: LabelShards, shards: set[str]) -> tuple[int, int, tuple[str, ...]]:
    """Number of the labels' shards that are not among `shards`, number of their rows, and the first of their names."""
    claimed = spark.createDataFrame([(shard,) for shard in sorted(shards)], "shard string")
    absent = shard_sizes(spark, labels).join(claimed, "shard", "left_anti")
    totals = absent.agg(F.count("*").alias("shards"), F.coalesce(F.sum("rows"), F.lit(0)).alias("rows")).collect()[0]
    first = absent.orderBy("shard").limit(SHOWN_SHARDS).collect() if totals["shards"] else []
    return totals["shards"], totals["rows"], tuple(row["shard"] for row in first)


def summary_lines(report: Comparison, *, worst: int) -> list[str]:
    """The comparison as lines of text: totals, the tars that fit worst, labels without a tar."""
    lines = [
        f"{counted(len(report.tars), 'tar')}, {counted(report.total('samples'), 'sample')}: "
        f"{report.total('labelled'):,} with a row in the labels, "
        f"{report.total('rejected'):,} rejected when labelled, {report.total('missing'):,} missing from the labels "
        f"({report.missing_share:.2%})",
        f"{report.labels}: {report.label_rows:,} labels, {report.total('surplus'):,} without a sample in their tar, "
        f"{report.absent_rows:,} in {report.absent_shards:,} shards without a tar "
        f"({report.surplus_share:.2%} together)",
    ]
    if absent := report.total("absent_rejects"):
        lines.append(f"rejected rows without a sample, such as failed downloads: {absent:,}; that is no fault")
    # The worst first: unreadable tars, then those of most faults.
    bad = sorted(filter(faults_of, report.tars), key=lambda tar: (tar.unreadable is None, -faults_of(tar), tar.tar))
    if not bad:
        lines.append("every tar fits its labels")
    else:
        rows = [[*(getattr(tar, name) for name in COLUMNS[:6]), *last_cells(tar)] for tar in bad[:worst]]
        which = f"the worst {worst:,} of {len(bad):,} tars" if len(bad) > worst else "tars"
        lines += ["", f"{which} that do not fit ({LEGEND}):", *terminal_table([COLUMNS, *rows])]
    if report.first_absent:
        more = ", ..." if report.absent_shards > len(report.first_absent) else ""
        lines += ["", f"shards without a tar: {', '.join(map(shown, report.first_absent))}{more}"]
    return lines


def last_cells(tar: TarAccount) -> tuple[str, str]:
    """The columns truncated and tar, the latter with a note if one is needed."""
    note = "no shard of its name in the labels" if tar.shard is None else None
    if reason := tar.unreadable or note:
        return "yes" if tar.truncated else "", f"{tar.tar}: {reason}"
    return "yes" if tar.truncated else "", tar.tar


def faults_of(tar: TarAccount) -> int:
    """Number of a tar's samples and labels that do not fit, plus one for each kind of damage."""
    return tar.missing + tar.surplus + tar.repeated + tar.truncated + (tar.unreadable is not None)


def refuse_misfit(report: Comparison, *, max_missing: float, max_surplus: float) -> None:
    """Raise an error if the trainer would stop, or if a share is exceeded.

    Truncated tars and repeated keys alone raise none: the trainer passes over such samples and reports them.
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
    """The `wanted` of an error about a share."""
    return f"{thing} for each" if most == 0 else f"{thing} for all but {most:.2%}"


def write_report(report: Comparison, options: Check, out: Location) -> None:
    """Write everything as JSON, with the resolved options."""
    sums = ("samples", "labelled", "rejected", "missing", "surplus", "absent_rejects", "repeated", "truncated")
    content = {
        "config": public(asdict(options)),
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


@dataclass(frozen=True)
class TarAccount:
    """The account of one tar: samples = labelled + rejected + missing."""

    tar: str
    shard: str | None
    """its name in the labels; None if they have neither a row nor a reject of it"""
    samples: int = 0
    """whole samples, each key once"""
    labelled: int = 0
    """samples with a row in the part files, of synsets or empty"""
    rejected: int = 0
    """samples in rejects.parquet, with the reason why they have no label"""
    missing: int = 0
    """samples in neither"""
    surplus: int = 0
    """rows in the part files whose sample the tar lacks"""
    absent_rejects: int = 0
    """rows in rejects.parquet whose sample the tar lacks, such as failed downloads"""
    repeated: int = 0
    """whole samples whose key the tar has twice or more: label rejects all of them, and the trainer passes over them"""
    truncated: bool = False
    """true if the archive breaks off; the sample in which it does is not counted"""
    unreadable: str | None = None
    """why it could not be read at all"""


@cache
def open_labels(labels: str, manifest: str) -> LabelShards:
    """The label directory, opened once per Python worker; `manifest` tells it from an older one of the same name."""
    del manifest
    # The driver has compared the checksums.
    return LabelShards.open(labels, checksums=False)


def account_tar(path: str, labels: LabelShards) -> TarAccount:
    """Compare one tar with its labels. A tar that cannot be read gives an account, not an error: there may be more."""
    shard = labels.find_shard(path) or next((s for s in possible_shards(path) if len(labels.read_rejects(s))), None)
    rows = set(labels.read_shard(shard)["key"].to_pylist()) if shard is not None else set()
    rejects = set(labels.read_rejects(shard)["key"].to_pylist()) - rows if shard is not None else set()
    every: list[str] = []
    repeats: Set[str] = frozenset()
    truncated, unreadable = False, None
    try:
        with open_file(path) as stream:
            for sample in samples(cast(BinaryIO, stream)):
                truncated, repeats = not sample.whole, sample.repeats
                if sample.whole:
                    every.append(sample.key)
    except tarfile.ReadError as error:
        unreadable = f"no tar ({error})"
    except OSError as error:
        unreadable = f"cannot be read ({error})"
    keys = set(every)
    return TarAccount(
        tar=without_secrets(path),
        shard=shard,
        samples=len(keys),
        labelled=len(keys & rows),
        rejected=len(keys & rejects),
        missing=len(keys - rows - rejects),
        surplus=len(rows - keys),
        absent_rejects=len(rejects - keys),
        repeated=sum(key in repeats for key in every),
        truncated=truncated,
        unreadable=None if unreadable is None else without_secrets(unreadable),
    )
