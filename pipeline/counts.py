"""How many rows hold each synset, added up from parts: of batches in a task, of tasks in a job.

In: lists of synsets. Out: tables of synset, captions. Rows that go or are joined to others are taken away again.
"""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import islice

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.labels import union_of
from vocab.store.files import write_whole
from vocab.store.label_shards import COUNTS_SCHEMA, INPUT
from vocab.store.label_writing import describe_file
from vocab.store.manifest import InputFile, LabelFile

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


ORDER = [("shard", "ascending"), ("key", "ascending")]


class Joins:
    """Joins rows, and remembers what that changes."""

    def __init__(self, counts: Counts) -> None:
        """`counts`: counts that hold every row, or none yet; synsets shared by joined rows are taken away from them."""
        self.counts = counts
        self._moved: Counter[tuple[str, str]] = Counter()

    def join(self, rows: pa.Table) -> pa.Table:
        """One row for each (shard, key) of sorted rows."""
        again = np.concatenate([[False], np.asarray(repeats(rows))])
        if not again.any():
            return rows
        owner = "shard"
        if INPUT.name in rows.schema.names:
            owner, rows = INPUT.name, rows.sort_by([*ORDER, (INPUT.name, "ascending")])
        number = np.cumsum(~again) - 1
        lists = rows["synsets"].combine_chunks()
        union = union_of(lists, number, int(number[-1]) + 1)
        self.counts.add(lists, times=-1)
        self.counts.add(union)
        some = np.asarray(pc.list_value_length(lists)) > 0
        some_of_union = np.asarray(pc.list_value_length(union)) > 0
        for moved, mask in (
            ("labelled", again & some),
            ("empty", again & ~some),
            ("filled", ~again & ~some & some_of_union[number]),
        ):
            for entry in pc.value_counts(rows[owner].filter(pa.array(mask))).to_pylist():
                self._moved[entry["values"], moved] += entry["counts"]
        first = rows.filter(pa.array(~again))
        return first.set_column(first.schema.get_field_index("synsets"), rows.schema.field("synsets"), union)

    def account(self, paths: Mapping[str, str]) -> tuple[InputFile, ...]:
        """Changes to add to the account of each file. `paths`: of shards, where they tell the file."""
        changes = []
        for owner in sorted({owner for owner, _ in self._moved}):
            labelled, empty, filled = (self._moved[owner, moved] for moved in ("labelled", "empty", "filled"))
            changes.append(
                InputFile(
                    paths.get(owner, owner), size=0, modified="",
                    labelled=filled - labelled, empty=-filled - empty, merged=labelled + empty,
                )
            )  # fmt: skip
        return tuple(changes)


def repeats(rows: pa.Table) -> pa.BooleanArray:
    """[rows - 1] whether each of sorted rows but the first has the (shard, key) of the one above it."""
    shard, key = (rows[name].combine_chunks() for name in ("shard", "key"))
    return pc.and_(pc.equal(shard[1:], shard[:-1]), pc.equal(key[1:], key[:-1]))
