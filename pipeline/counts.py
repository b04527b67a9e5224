"""How many rows hold each synset, added up from parts: of batches in a task, of tasks in a job.

In: lists of synsets. Out: tables of synset, captions. Rows that go or are joined to others are taken away again.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from itertools import islice

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from vocab.store.files import write_whole
from vocab.store.label_shards import COUNTS_SCHEMA
from vocab.store.label_writing import describe_file
from vocab.store.manifest import LabelFile

ADDED_AT_ONCE = 32
"""tables of counts that are held to be added up"""


class Counts:
    """How many rows hold each synset, added up as batches pass by."""

    def __init__(self) -> None:
        self._held: list[pa.Table] = []

    def add(self, lists: pa.ListArray, *, times: int = 1) -> None:
        """Count lists, whose synsets are unique, so that each row counts once for each; `times` -1 takes rows away."""
        counted = pc.value_counts(lists.flatten())
        captions = pc.multiply(counted.field("counts"), times)
        self._held.append(pa.table([counted.field("values"), captions], schema=COUNTS_SCHEMA))
        if len(self._held) >= ADDED_AT_ONCE:
            self._held = [self.table()]

    def table(self) -> pa.Table:
        """synset, captions; sorted."""
        return add_counts(self._held)

    def write(self, directory: str, name: str) -> LabelFile:
        """Write them to a file whose name begins with `name` and is used by nobody else; the file."""
        name = f"{name}-{secrets.token_hex(4)}.parquet"
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
