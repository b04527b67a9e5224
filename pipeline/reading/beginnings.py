"""First bytes of files whose names do not say what format they have.

In: a path, a format, and a file that has it. Out: whether the file begins as files of the format do.
"""

from __future__ import annotations

from pipeline.reading.gzip_tars import MAGIC
from pipeline.reading.lines import first_line, record_of
from pipeline.reading.stored_formats import PARQUET, StoredFormat
from vocab.store.files import filesystem_of

HEAD = 1 << 16
PARQUET_MAGIC, TAR_MAGIC = b"PAR1", b"ustar"
TAR_MAGIC_AT = 257


def begins_as(path: str, stored: StoredFormat, *, like: str) -> bool:
    """Tell a file of the format; one of a table has the first line of the file that it is to be `like`."""
    try:
        head = _head(path, decompressed=stored != "webdataset")
        if stored in PARQUET:
            return head.startswith(PARQUET_MAGIC)
        if stored == "webdataset":
            return head.startswith(MAGIC) or head[TAR_MAGIC_AT:].startswith(TAR_MAGIC)
        if stored == "jsonl":
            return record_of(first_line(head))[1] is None
        return stored in ("tsv", "csv") and first_line(head) == first_line(_head(like, decompressed=True))
    except OSError:
        return False


def _head(path: str, *, decompressed: bool) -> bytes:
    filesystem, inner = filesystem_of(path)
    # "detect" decompresses .gz.
    with filesystem.open_input_stream(inner, compression="detect" if decompressed else None) as stream:
        head: bytes = stream.read(HEAD)
    return head
