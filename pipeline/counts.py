"""Counts of rows by synset, and the joining of several caption rows of one (shard, key), which corrects them.

Counts are added up over the batches of a task and the tasks of a job; rows that are removed or joined are subtracted.

With --same-key union, rows sorted by (shard, key) become one row for each (shard, key), with the union of their
synsets. The row of the input file whose path sorts first stays in the account, as labelled or empty by the union; each
other row becomes merged. So the result does not depend on where rows meet: in a task, in the merge of sorted files, or
when a finished directory is extended. Rows of several files meet only where a column names the shard: then each row
carries its file in a column `input`. Elsewhere the shard tells the file.

    shard  key  synsets  input              shard  key  synsets  input        labelled  empty  merged
    x      k    [2, 3]   b.tsv        ->    x      k    [1,2,3]  a.tsv   a.tsv       1     -1
    x      k    []       a.tsv                                           b.tsv      -2             +2
    x      k    [1]      b.tsv
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
"""tables of counts held in memory before they are added up"""


class Counts:
    """Number of rows that hold each synset, added up batch by batch."""

    def __init__(self) -> None:
        self._held: list[pa.Table] = []

    def add(self, lists: pa.ListArray, *, times: int = 1) -> None:
        """Count each row once for each of its synsets, which are unique; `times` -1 subtracts rows."""
        counted = pc.value_counts(lists.flatten())
        captions = pc.multiply(counted.field("counts"), times)
        self._held.append(pa.table([counted.field("values"), captions], schema=COUNTS_SCHEMA))
        if len(self._held) >= ADDED_AT_ONCE:
            self._held = [self.table()]

    def table(self) -> pa.Table:
        """synset, captions; sorted."""
        return add_counts(self._held)

    def write(self, directory: str, name: str) -> LabelFile:
        """Write the counts to a file of a new name that begins with `name`; return the file."""
        name = f"{name}-{secrets.token_hex(4)}.parquet"
        with write_whole(f"{directory}/{name}") as file:
            pq.write_table(self.table(), file, compression="zstd")
        return describe_file(directory, name)


def add_counts(tables: Iterable[pa.Table]) -> pa.Table:
    """Sum of tables of synset, captions; sorted by synset. Only ADDED_AT_ONCE of them are held at a time."""
    left = iter(tables)
    total = COUNTS_SCHEMA.empty_table()
    while some := list(islice(left, ADDED_AT_ONCE)):
        every = pa.concat_tables([total, *some])
        summed = every.group_by("synset").aggregate([("captions", "sum")]).rename_columns(COUNTS_SCHEMA.names)
        total = summed.cast(COUNTS_SCHEMA)
    return total.sort_by("synset")


ORDER = [("shard", "ascending"), ("key", "ascending")]


class Joins:
    """Joins rows, and keeps the corrections of counts and account."""

    def __init__(self, counts: Counts) -> None:
        """`counts`: hold every row, or none yet; synsets that joined rows share are subtracted from them."""
        self.counts = counts
        self._moved: Counter[tuple[str, str]] = Counter()

    def join(self, rows: pa.Table) -> pa.Table:
        """Join sorted rows to one row for each (shard, key)."""
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
        """Changes to add to the account of each file. `paths`: files by shard, where the shard tells the file."""
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
    """Mask [rows - 1]: true for each of the sorted rows, but the first, whose (shard, key) is that of the row above."""
    shard, key = (rows[name].combine_chunks() for name in ("shard", "key"))
    return pc.and_(pc.equal(shard[1:], shard[:-1]), pc.equal(key[1:], key[:-1]))
