"""One tar against its labels: what each has that the other lacks.

In: a tar and an open label directory. Out: a `TarAccount`. Only headers of the tar are read, and of the labels only the
row groups that can hold its shard.
"""

from __future__ import annotations

import tarfile
from collections.abc import Callable, Iterator, Set
from dataclasses import asdict, dataclass
from functools import cache
from typing import BinaryIO, cast

import pyarrow as pa

from vocab.store.files import filesystem_of
from vocab.store.label_shards import LabelShards, possible_shards
from vocab.store.tar_samples import samples


@dataclass(frozen=True)
class TarAccount:
    """The account of one tar: samples = labelled + rejected + missing."""

    tar: str
    shard: str | None
    """what the labels call it; None if they have neither a row nor a reject of it"""
    samples: int = 0
    """whole samples, each key once"""
    labelled: int = 0
    """samples with a row in the part files, of synsets or empty"""
    rejected: int = 0
    """samples in rejects.parquet: the labels know them, and why they have none"""
    missing: int = 0
    """samples that the labels do not know"""
    surplus: int = 0
    """rows in the part files whose sample the tar lacks"""
    absent_rejects: int = 0
    """rows in rejects.parquet whose sample the tar lacks, such as failed downloads"""
    repeated: int = 0
    """whole samples whose key the tar has twice or more: label rejects all of them, the trainer passes over them"""
    truncated: bool = False
    """whether the archive breaks off; the sample it breaks in is not counted"""
    unreadable: str | None = None
    """why it could not be read at all"""


SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in ("tar", "shard")),
        *((name, pa.int64()) for name in ("samples", "labelled", "rejected", "missing", "surplus")),
        *((name, pa.int64()) for name in ("absent_rejects", "repeated")),
        ("truncated", pa.bool_()),
        ("unreadable", pa.string()),
    ]
)
DDL = (
    "tar string, shard string, samples bigint, labelled bigint, rejected bigint, missing bigint, surplus bigint, "
    "absent_rejects bigint, repeated bigint, truncated boolean, unreadable string"
)


def account_tars(labels: str, manifest: str) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    """For `mapInArrow`: paths of tars in (column "tar"), accounts out. `manifest`: checksum of the labels' manifest."""

    def account(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            rows = [asdict(account_tar(path, open_labels(labels, manifest))) for path in batch["tar"].to_pylist()]
            yield pa.RecordBatch.from_pylist(rows, schema=SCHEMA)

    return account


@cache
def open_labels(labels: str, manifest: str) -> LabelShards:
    """The label directory, opened once per Python worker; `manifest` tells it from an earlier one of the same name."""
    del manifest
    # The driver has compared the checksums.
    return LabelShards.open(labels, checksums=False)


def account_tar(path: str, labels: LabelShards) -> TarAccount:
    """Compare one tar with its labels. A tar that cannot be read is an account, not an error: there may be more."""
    shard = labels.find_shard(path) or next((s for s in possible_shards(path) if len(labels.read_rejects(s))), None)
    rows = set(labels.read_shard(shard)["key"].to_pylist()) if shard is not None else set()
    rejects = set(labels.read_rejects(shard)["key"].to_pylist()) - rows if shard is not None else set()
    every: list[str] = []
    repeats: Set[str] = frozenset()
    truncated, unreadable = False, None
    try:
        filesystem, inner = filesystem_of(path)
        with filesystem.open_input_file(inner) as stream:
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
        tar=path,
        shard=shard,
        samples=len(keys),
        labelled=len(keys & rows),
        rejected=len(keys & rejects),
        missing=len(keys - rows - rejects),
        surplus=len(rows - keys),
        absent_rejects=len(rejects - keys),
        repeated=sum(key in repeats for key in every),
        truncated=truncated,
        unreadable=unreadable,
    )
