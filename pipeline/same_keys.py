"""Several caption rows of one (shard, key) to one row with the union of their synsets (--same-key union).

In: rows sorted by (shard, key), some at a time. Out: one row for each (shard, key), and corrections of the account of
input files and of the counts, in which each row was entered as if it were alone.

The row of the input file whose path sorts first stays in the account as labelled or empty, by the union; each other row
becomes merged. So the result is the same in whatever order rows meet: in a task, in the merge of sorted files, or when
a finished directory is extended. Rows of several files meet only where a column names the shard: then each row carries
its file in a column `input`. Elsewhere the shard identifies the file.

    shard  key  synsets  input              shard  key  synsets  input        labelled  empty  merged
    x      k    [2, 3]   b.tsv        ->    x      k    [1,2,3]  a.tsv   a.tsv       1     -1
    x      k    []       a.tsv                                           b.tsv      -2             +2
    x      k    [1]      b.tsv
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.counts import Counts
from pipeline.labels import union_of
from vocab.store.label_shards import INPUT
from vocab.store.manifest import InputFile

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
