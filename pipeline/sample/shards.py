"""Shards on disk: a tar of samples, the Parquet file beside it, and its statistics, as img2dataset writes them."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from vocab.store.files import write_whole

JPEG_QUALITY = 85

SIDECAR = pa.schema(
    [(name, pa.string()) for name in ("key", "caption", "url", "status", "error_message")]
    + [(name, pa.int32()) for name in ("width", "height")]
    + [(name, pa.list_(pa.int32())) for name in ("synsets", "mentioned")]
)


def shard_name(shard: int) -> str:
    """The stem of a shard's files, such as "00017"."""
    return f"{shard:05d}"


def key_of(shard: int, index: int) -> str:
    """A sample's key, such as "000170042" for the sample 42 of the shard 17."""
    return f"{shard:05d}{index:04d}"


@contextmanager
def open_tar(path: Path) -> Iterator[tarfile.TarFile]:
    """Open a shard's tar to add samples to."""
    with write_whole(path) as file, tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        yield tar


def write_json(path: Path, content: object) -> None:
    """Write a small JSON file for people to read too."""
    with write_whole(path) as file:
        file.write((json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode())


def write_sidecar(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write the Parquet file of a shard."""
    with write_whole(path) as file:
        pq.write_table(pa.Table.from_pylist(rows, schema=SIDECAR), file)


def write_stats(path: Path, statuses: Sequence[str]) -> None:
    """Write img2dataset's statistics, without its times: they would differ from run to run."""
    counts = {status: statuses.count(status) for status in sorted(set(statuses))}
    stats = {
        "count": len(statuses),
        "successes": counts.get("success", 0),
        "failed_to_download": counts.get("failed_to_download", 0),
        "failed_to_resize": 0,
        "status_dict": counts,
    }
    write_json(path, stats)


def add_sample(
    tar: tarfile.TarFile, key: str, *, image: Image.Image, text: dict[str, str], truth: dict[str, Any]
) -> None:
    """Add KEY.jpg, one member per entry of text: extension -> content, and KEY.json with the truth."""
    jpeg = io.BytesIO()
    image.save(jpeg, "JPEG", quality=JPEG_QUALITY)
    texts = {
        name: content.encode() for name, content in {**text, "json": json.dumps(truth, ensure_ascii=False)}.items()
    }
    for extension, content in {"jpg": jpeg.getvalue(), **texts}.items():
        # A fresh TarInfo has no time and no owner, so the bytes depend on nothing but the content.
        info = tarfile.TarInfo(f"{key}.{extension}")
        info.size = len(content)
        tar.addfile(info, io.BytesIO(content))
