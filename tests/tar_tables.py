"""A tar with one sample of each kind, and the table made from it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from tests.labels import label_table
from tests.pictures import tar_of
from tests.synsets import CAR, CAT, DOG, vocabulary_of
from trainer.data.tar_tables import TableInputs, TarTable, make_table
from vocab.store.label_shards import LabelShards
from vocab.store.label_writing import write_label_shards
from vocab.vocabulary import Vocabulary

LIMIT = 100
"""the largest member that a table takes, in bytes"""
Row = tuple[str, str, list[int]]


@dataclass(frozen=True)
class Asked:
    """Arguments of `make_table`, one by one."""

    path: Path
    labels: LabelShards
    vocabulary: Vocabulary
    shard: str = "0"
    max_member_bytes: int = LIMIT

    def inputs(self, location: str) -> TableInputs:
        return TableInputs(location, self.shard, self.labels, self.vocabulary, self.max_member_bytes)

    def make(self, **changes: Any) -> TarTable:
        asked = replace(self, **changes)
        return make_table(asked.path, asked.inputs(str(asked.path)))


def labels_of(directory: Path, rows: list[Row]) -> LabelShards:
    """Write labels of these rows and open them."""
    write_label_shards(directory, label_table(*rows), labeler="test", fingerprint="f" * 64)
    return LabelShards.open(directory)


def asked_in(folder: Path) -> Asked:
    """Write a tar of seven samples: two usable, one of them without a class, and one for each reason not to be."""
    path = tar_of(
        folder / "0.tar",
        ("none.txt", b"no image"),
        ("dogs.jpg", b"a dog and a cat"),
        ("dogs.txt", b"caption"),
        ("large.jpg", bytes(LIMIT + 1)),
        ("stranger.jpg", b"not labelled"),
        ("twice.jpg", b"once"),
        ("cars.jpg", b"a car"),
        ("twice.jpg", b"again"),
    )
    rows: list[Row] = [
        ("0", "cars", [CAR]),
        ("0", "dogs", [DOG, CAT]),
        ("0", "gone", [DOG]),
        ("0", "large", []),
        ("1", "a", [DOG]),
    ]
    return Asked(path, labels_of(folder / "labels", rows), vocabulary_of(CAT, DOG))


def content_of(table: TarTable) -> dict[str, Any]:
    """List the contents of a table as plain values."""
    arrays = ("indices", "offsets", "sizes", "class_ends", "classes")
    return {
        "keys": table.keys,
        "faults": table.faults,
        "account": table.account,
        **{name: getattr(table, name).tolist() for name in arrays},
    }


def damaged(content: bytes, data: st.DataObject) -> bytes:
    """Cut a file short, or change one of its bits."""
    if data.draw(st.booleans()):
        return content[: data.draw(st.integers(0, len(content) - 1))]
    changed = bytearray(content)
    changed[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    return bytes(changed)
