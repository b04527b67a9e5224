"""Footers of label files: which shards the row groups of a Parquet file can hold, by their statistics.

In: the metadata at the end of a Parquet file. Out: the row groups that can hold a shard, and the range of the file.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pyarrow.parquet as pq


@dataclass(frozen=True)
class Footer:
    """What a Parquet file says of itself at its end."""

    metadata: pq.FileMetaData
    ranges: list[tuple[bytes, bytes] | None]
    """least and greatest shard of each row group, as bytes; None for one without statistics"""

    @classmethod
    def of(cls, metadata: pq.FileMetaData) -> Footer:
        """The footer with the ranges that its statistics tell; no ranges for a file without a column `shard`."""
        held = _shard_statistics(metadata)
        ranges = [(byte_order(s.min), byte_order(s.max)) if s is not None and s.has_min_max else None for s in held]
        return cls(metadata, ranges)

    def groups_of(self, shard: str) -> list[int]:
        """The row groups that can hold a shard."""
        name = byte_order(shard)
        return [group for group, held in enumerate(self.ranges) if held is None or held[0] <= name <= held[1]]


def shard_range(metadata: pq.FileMetaData) -> tuple[str | None, str | None]:
    """Least and greatest shard of a file; None and None for one without rows or without a column `shard`."""
    held = _shard_statistics(metadata)
    if not held or metadata.num_rows == 0:
        return None, None
    return min((s.min for s in held), key=byte_order), max((s.max for s in held), key=byte_order)


def _shard_statistics(metadata: pq.FileMetaData) -> list[Any]:
    """The statistics of the column `shard` in each row group; none if there is no such column."""
    columns = [metadata.schema.column(i).path for i in range(metadata.num_columns)]
    if "shard" not in columns:
        return []
    place = columns.index("shard")
    return [metadata.row_group(i).column(place).statistics for i in range(metadata.num_row_groups)]


def byte_order(shard: str) -> bytes:
    """What shards are compared by: Parquet and Spark order strings by their bytes."""
    return shard.encode()
