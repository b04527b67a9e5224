"""Small label directories: plain ones, and one whose captions and names attack the pages that show them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pyarrow as pa

from tests.synsets import CAT, COUCH, DOG, PERSON
from vocab import labeler
from vocab.store.label_shards import REJECTS_SCHEMA, SCHEMA, LabelShards
from vocab.store.label_writing import write_label_shards, write_manifest
from vocab.store.manifest import InputFile, Manifest


def label_table(*rows: tuple[str, str, list[int]]) -> pa.Table:
    """Make a table of (shard, key, synsets) rows in the types of the label format."""
    return pa.table([list(column) for column in zip(*rows, strict=True)] if rows else [[], [], []], schema=SCHEMA)


THREE_ROWS = label_table(("00001", "b", [DOG]), ("00000", "a", []), ("00000", "c", [DOG, CAT]))
FIVE_ROWS = label_table(
    ("0", "a", [DOG]),
    ("0", "b", [PERSON, DOG, COUCH]),
    ("0", "c", []),
    ("1", "a", [DOG, CAT]),
    ("1", "b", [PERSON]),
)

EVIL = '<script>document.title="ran";console.error("ran")</script>'
HOSTILE_CAPTIONS = (
    f"a dog {EVIL}",
    "a dog </style></title></svg><img src=x onerror=alert(1)> on a couch",
    "a dog \"quoted\" and 'quoted' & more",
    "a dog gnp\u202egpj.exe \x00\x07\x1b[31m\x85",
    "שלום the dog is on the couch in the house",
)
HOSTILE_NAME = f"/data/'\"></style>{EVIL}\u202egpj.tsv"
HOSTILE_REASON = f"status:</table>{EVIL}"


def write_labels(
    directory: Path, *rows: tuple[str, str, list[int]], rejects: tuple[tuple[str, str, str], ...] = ()
) -> None:
    """Write labels of these rows, with rejects of (shard, key, reason)."""
    rejected = pa.table([list(c) for c in zip(*rejects, strict=True)] if rejects else [[], [], []], REJECTS_SCHEMA)
    write_label_shards(directory, label_table(*rows), labeler="x", fingerprint="y", rejects=rejected)


def write_three(directory: Path, rows: pa.Table = THREE_ROWS, *, parts: int = 2) -> Manifest:
    """Write labels of three rows, or of `rows`, and one rejected row; return their manifest."""
    rejects = pa.table([["00001"], ["z"], ["null_caption"]], schema=REJECTS_SCHEMA)
    return write_label_shards(directory, rows, labeler="wordnet", fingerprint="f" * 64, rejects=rejects, parts=parts)


def write_five(
    directory: Path, rows: pa.Table = FIVE_ROWS, *, reasons: tuple[str, ...] = (), parts: int = 2
) -> LabelShards:
    """Write labels of five rows, or of `rows`, and a rejected row for each reason; open them."""
    keys = [f"r{number}" for number in range(len(reasons))]
    rejects = pa.table([["9"] * len(reasons), keys, list(reasons)], schema=REJECTS_SCHEMA)
    write_label_shards(directory, rows, labeler="catlip", fingerprint="f" * 64, rejects=rejects, parts=parts)
    return LabelShards.open(directory)


def small_labels(folder: Path) -> Path:
    """Write the labels of 92 captions, one of them without a noun."""
    rows = label_table(
        *(("0", f"{number:03d}", [PERSON] if number < 60 else [DOG, COUCH]) for number in range(90)),
        ("1", "a", []),
        ("1", "b", [CAT]),
    )
    write_label_shards(folder / "labels", rows, labeler="catlip", fingerprint="f" * 64)
    return folder / "labels"


def hostile_labels(folder: Path, captions: tuple[str, ...] = HOSTILE_CAPTIONS) -> tuple[Path, Path]:
    """Write captions that attack a page, and their labels; return the label directory and the captions' file."""
    source = folder / "captions.jsonl"
    source.write_text("".join(json.dumps({"caption": caption}) + "\n" for caption in captions), encoding="utf-8")
    ours = labeler.load()
    lists = ours.label(pa.array(captions, pa.string())).to_pylist()
    rows = label_table(*(("captions", f"{number:09d}", synsets) for number, synsets in enumerate(lists)))
    rejects = pa.table([["x"], ["0"], [HOSTILE_REASON]], schema=REJECTS_SCHEMA)
    config = {"format": "jsonl"}
    target = folder / "labels"
    manifest = write_label_shards(
        target, rows, labeler=ours.name, fingerprint=ours.fingerprint, rejects=rejects, config=config
    )
    empty = manifest.empty
    inputs = (
        InputFile(str(source), source.stat().st_size, "", len(lists), len(lists) - empty, empty, 0),
        InputFile(HOSTILE_NAME, 1, "", 1, 0, 0, 1),
    )
    write_manifest(target, replace(manifest, inputs=inputs))
    return target, source
