"""Compressions that names of files tell by their last extension.

In: a name. Out: what it is compressed with, and the command that undoes it.

    00000.tar.gz  00000.tgz  x.jsonl.zst
"""

from __future__ import annotations

COMPRESSIONS = {
    ("gz", "tgz"): ("gzip", "gzip -d"),
    ("bz2", "tbz", "tbz2"): ("bzip2", "bzip2 -d"),
    ("xz", "txz"): ("xz", "xz -d"),
    ("zst", "tzst"): ("zstd", "zstd -d"),
    ("lz4",): ("lz4", "lz4 -d"),
    ("zip",): ("zip", "unzip"),
    ("7z",): ("7-Zip", "7z x"),
}


def compression_of(name: str) -> tuple[str, str] | None:
    """Name of a compression and the command that undoes it; None for the name of a file that is not compressed."""
    extension = name.lower().rpartition(".")[2]
    return next((told for extensions, told in COMPRESSIONS.items() if extension in extensions), None)
