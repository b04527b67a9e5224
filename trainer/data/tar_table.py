"""The table of a tar: which samples can be trained on, where their images lie and which classes they have.

In: a tar, its labels, a vocabulary. Out: a `TarTable`, and the file that holds one: an Arrow IPC file of one row,
`SCHEMA`, and 4 bytes of CRC-32.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Int32, Int64

from trainer.data.labels import join
from trainer.data.tar_index import FAULTS, TRUNCATED_TAR, NoTarError, index_tar
from vocab.store.files import write_whole
from vocab.store.label_shards import LabelShards
from vocab.vocabulary import Vocabulary

# Goes up whenever the same tar and labels give another table.
FORMAT_VERSION = 3
UNREADABLE_TAR = "unreadable_tar"
ACCOUNT = ("samples", "bad", "unmatched", "surplus_labels", "unlabelled")
SCHEMA = pa.schema(
    [
        ("keys", pa.list_(pa.string())),
        ("indices", pa.list_(pa.int32())),
        ("offsets", pa.list_(pa.int64())),
        ("sizes", pa.list_(pa.int64())),
        ("class_ends", pa.list_(pa.int64())),
        ("classes", pa.list_(pa.int32())),
        ("empty", pa.list_(pa.bool_())),
        ("fault_keys", pa.list_(pa.string())),
        ("fault_reasons", pa.list_(pa.string())),
        ("account", pa.list_(pa.int64())),
    ]
)

_CRC_BYTES = 4


@dataclass(frozen=True, eq=False)
class TarTable:
    """The samples of a tar that can be trained on: with an image, as far as headers tell, and a row in the labels."""

    key_array: pa.StringArray
    """[samples]"""
    indices: Int32[np.ndarray, " samples"]
    """place of the sample in its tar, among all"""
    offsets: Int64[np.ndarray, " samples"]
    """where the image begins in the file"""
    sizes: Int64[np.ndarray, " samples"]
    """bytes of the image"""
    class_ends: Int64[np.ndarray, " samples_plus_1"]
    """classes[class_ends[i] : class_ends[i + 1]] are those of sample i, ascending"""
    classes: Int64[np.ndarray, " positives"]
    empty: Bool[np.ndarray, " samples"]
    """whether the caption holds no synset at all, in the vocabulary or not"""
    faults: list[tuple[str, str]]
    """key and reason of each sample that cannot be used, in the tar's order"""
    account: dict[str, int]
    """samples: all of the tar; bad: those with a fault; unmatched: others without a row; surplus_labels: rows whose
    sample the tar lacks; unlabelled: usable ones without a class of the vocabulary. Where the tar breaks off, rows
    without a sample are samples behind the break, and bad"""

    def __len__(self) -> int:
        return len(self.indices)

    @cached_property
    def keys(self) -> list[str]:
        """[samples], decoded when first asked for."""
        decoded: list[str] = self.key_array.to_pylist()
        return decoded


def make_table(
    path: Path, *, shard: str, labels: LabelShards, vocabulary: Vocabulary, max_member_bytes: int, place: str = ""
) -> TarTable:
    """The table of one tar. A file that is no tar gives one without samples, in which all its labels count as bad.

    `place`: what errors call the tar, where that is not the path.
    Raises InputError for a tar that is not there or cannot be read, FormatError for labels that cannot be read.
    """
    try:
        index = index_tar(path, max_member_bytes=max_member_bytes, place=place)
    except NoTarError:
        return _unreadable(len(labels.read_shard(shard)))
    joined = join(labels, vocabulary, shard=shard, keys=index.keys)
    bad = index.faults > 0
    usable = ~bad & joined.matched
    (places,) = np.nonzero(usable)
    lengths = np.diff(joined.ends)
    broken = len(index) > 0 and bool(index.faults[-1] == TRUNCATED_TAR)
    lost = joined.surplus if broken else 0
    return TarTable(
        key_array=pa.array(index.keys, pa.string()).take(pa.array(places)),
        indices=places.astype(np.int32),
        offsets=index.offsets[places],
        sizes=index.sizes[places],
        class_ends=np.concatenate([[0], np.cumsum(lengths[places])]).astype(np.int64),
        classes=joined.classes[np.repeat(usable, lengths)].astype(np.int64),
        empty=joined.empty[places],
        faults=[(index.keys[place], FAULTS[index.faults[place]]) for place in np.nonzero(bad)[0].tolist()],
        account={
            "samples": len(index) + lost,
            "bad": int(bad.sum()) + lost,
            "unmatched": int((~bad & ~joined.matched).sum()),
            "surplus_labels": joined.surplus - lost,
            "unlabelled": int((lengths[places] == 0).sum()),
        },
    )


def _unreadable(rows: int) -> TarTable:
    """The table of a file that is no tar. Its samples are not known; the labels' rows tell how many were lost."""
    none = np.zeros(0, np.int64)
    return TarTable(
        key_array=pa.array([], pa.string()),
        indices=none.astype(np.int32),
        offsets=none,
        sizes=none,
        class_ends=np.zeros(1, np.int64),
        classes=none,
        empty=none.astype(bool),
        faults=[("", UNREADABLE_TAR)],
        account=dict.fromkeys(ACCOUNT, 0) | {"samples": max(1, rows), "bad": max(1, rows)},
    )


def write_table(file: Path, table: TarTable) -> None:
    """Write a table whole or not at all, its CRC-32 last. Raises OSError where that is not possible."""
    columns = {
        "keys": table.key_array,
        **{name: getattr(table, name) for name in ("indices", "offsets", "sizes", "class_ends", "classes", "empty")},
        "fault_keys": [key for key, _ in table.faults],
        "fault_reasons": [reason for _, reason in table.faults],
        "account": [table.account[name] for name in ACCOUNT],
    }
    lists = []
    for column in SCHEMA:
        values = pa.array(columns[column.name], column.type.value_type)
        lists.append(pa.ListArray.from_arrays(pa.array([0, len(values)], pa.int32()), values))
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, SCHEMA) as writer:
        writer.write_batch(pa.RecordBatch.from_arrays(lists, schema=SCHEMA))
    content = sink.getvalue()
    with write_whole(file) as stream:
        stream.write(content)
        stream.write(zlib.crc32(content).to_bytes(_CRC_BYTES, "little"))


def read_table(file: Path) -> TarTable | None:
    """Map a table. None if there is no such file, or its checksum is wrong.

    Raises OSError for one that cannot be read.
    """
    try:
        with pa.memory_map(str(file)) as mapped:
            content = mapped.read_buffer()
    except (FileNotFoundError, pa.ArrowInvalid):
        # Arrow does not map an empty file.
        return None
    body, crc = content[: max(0, len(content) - _CRC_BYTES)], content[max(0, len(content) - _CRC_BYTES) :]
    # Also of a file cut short: its last bytes would have to be the checksum of the others.
    if len(body) == 0 or zlib.crc32(body) != int.from_bytes(crc.to_pybytes(), "little"):
        return None
    row = pa.ipc.open_file(body).get_batch(0)
    values = {name: row.column(name).values for name in SCHEMA.names}
    arrays = {name: values[name].to_numpy() for name in ("indices", "offsets", "sizes", "class_ends")}
    return TarTable(
        key_array=values["keys"],
        **arrays,
        classes=values["classes"].to_numpy().astype(np.int64),
        empty=values["empty"].to_numpy(zero_copy_only=False),
        faults=list(zip(values["fault_keys"].to_pylist(), values["fault_reasons"].to_pylist(), strict=True)),
        account=dict(zip(ACCOUNT, values["account"].to_pylist(), strict=True)),
    )
