"""Stored formats of captions, recognised by the names of files, or by their first bytes where names leave it open.

    part-0.json.gz  x.txt  part-00000        captions if the format is named and no file has the format's own extension
    README.md  x.json.crc  x.log  _SUCCESS   never, unless named one by one
    x.tsv.part  x.TSV  x.jsonl.zst           maybe captions: not read, and reported

Files called .json:

    {"caption": "a dog"}                                          jsonl: the first line is a record
    {"images": [...], "annotations": [{"caption": "a dog"}]}      coco, wherever its lines end
    [{"caption": "a dog"}, {"caption": "a cat"}]                  another document: refused
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from typing import BinaryIO, Literal

from pipeline.config import StoredFormat
from pipeline.reading.gzip_files import MAGIC
from pipeline.reading.json_captions import record_of
from pipeline.reading.lines import first_line
from vocab.errors import InputError
from vocab.store.file_names import compression_of
from vocab.store.files import open_stream

EXTENSIONS: dict[StoredFormat, tuple[str, ...]] = {
    "parquet": (".parquet",),
    "tsv": (".tsv", ".tsv.gz"),
    "csv": (".csv", ".csv.gz"),
    "jsonl": (".jsonl", ".jsonl.gz", ".ndjson", ".ndjson.gz"),
    "webdataset": (".tar",),
    "img2dataset": (".parquet",),
    "coco": (),
}
"""extensions that name a format; files called .json are recognised by their content"""
SPELLINGS: dict[StoredFormat, tuple[str, ...]] = {
    "parquet": (".pq", ".parq", ".pqt"),
    "img2dataset": (".pq", ".parq", ".pqt"),
    "tsv": (".tab",),
    "webdataset": (".tar.gz", ".tgz"),
}
"""other extensions of a format, known if it is named; those of tars also if there is no other format"""
TARS = (*EXTENSIONS["webdataset"], *SPELLINGS["webdataset"])
JSON = (".json", ".json.gz")
GZIP = "gzip"
PARQUET = ("parquet", "img2dataset")
LINE_FORMATS = ("tsv", "csv", "jsonl")
TEXT_FORMATS = (*LINE_FORMATS, "coco")
TEXT_PATTERN = re.compile(r"\.(tsv|tab|csv|txt|jsonl|ndjson|json|log)(\.gz)?$", re.IGNORECASE)
STEM_PATTERN = re.compile(r"\.(parquet|pq|parq|pqt|tsv|tab|csv|txt|jsonl|ndjson|json|tar|tgz)(\.gz)?$", re.IGNORECASE)
# x.tsv.part, x.tar.crdownload, x.parquet._COPYING_, x.parquet.5e4d2f.tmp
UNFINISHED_PATTERN = r"\.(part|partial|tmp|temp|crdownload|download|inprogress|incomplete|_COPYING_)$"
# x.TSV, x.tar.bz2, x.jsonl.zst
UNREAD_PATTERN = r"\.((parquet|tsv|csv|jsonl|ndjson|tar)(\.(gz|bz2|xz|zst|zip))?|tgz|tbz2?|txz|tzst)$"
NO_DATA = re.compile(
    r"(readme|licen[sc]e|notice|changelog|citation|authors|makefile|(md5|sha\d+|check)sums?)([^a-z].*)?"
    r"|.*\.(md|rst|html?|pdf|py|sh|ipynb|ya?ml|toml|crc|md5|sha\d+|sig|asc|idx|index|log|jpe?g|jfif|png|webp|gif|bmp|tiff?|avif|mp4)",
    re.IGNORECASE,
)
"""names of files that accompany data, and that captions are never read from"""


def stem_of(path: str) -> str:
    """A path without the extension of a stored format."""
    return STEM_PATTERN.sub("", path)


def of_format(paths: Sequence[str], stored: StoredFormat, *, by_extension: bool) -> tuple[list[str], list[str]]:
    """Files of a location that are taken for a named format, and files that are taken if their content fits.

    Files with the format's own extensions are taken, and with them, if their content fits, files whose extension
    belongs to no format. If no file has an own extension, all files whose extension belongs to no format are taken. If
    there are none of these either, files of another text format are taken; for a binary format, only if a glob ends in
    their extension (`by_extension`).
    """
    usable = [path for path in paths if _may_hold(path.rpartition("/")[2])]
    own = [path for path in usable if _is_of(path, stored)]
    others = [path for path in usable if is_of_another(path, stored)]
    is_text = stored in TEXT_FORMATS
    rest = sorted(set(usable) - set(own) - set(others))
    unclear = [path for path in rest if is_text or TEXT_PATTERN.search(path) is None]
    if own:
        return own, unclear
    return unclear or [path for path in others if TEXT_PATTERN.search(path) and (by_extension or is_text)], []


def is_of_another(path: str, stored: StoredFormat) -> bool:
    """Tell a path whose extension belongs to another format, and not to this one."""
    return not _is_of(path, stored) and any(_is_of(path, other) for other in EXTENSIONS)


def _is_of(path: str, stored: StoredFormat) -> bool:
    """Tell a path with an extension of the format, in upper or lower case."""
    return path.lower().endswith((*EXTENSIONS[stored], *SPELLINGS.get(stored, ())))


def _may_hold(name: str) -> bool:
    """Tell whether a file of captions may have this name, whatever its extension."""
    compression = compression_of(name)
    if compression is not None and compression[0] != GZIP:
        return False
    return not (NO_DATA.fullmatch(name) or re.search(UNFINISHED_PATTERN, name, re.IGNORECASE))


def is_reported(name: str, *, left_out: bool) -> bool:
    """Tell a file that looks like captions but is hidden, unfinished, or has an extension that is not read."""
    known = tuple(ending for endings in EXTENSIONS.values() for ending in endings)
    if name.endswith(known):
        return left_out
    if re.search(UNREAD_PATTERN, name, re.IGNORECASE):
        return True
    whole = re.sub(UNFINISHED_PATTERN, "", name)
    return whole != name and (whole.endswith(known) or whole.rpartition(".")[0].endswith(known))


def refuse_compressed(paths: Iterable[str], *, gzip_is_read: bool = True) -> None:
    """Raise InputError for a file whose name shows a compression that is not read."""
    for path in paths:
        packed = compression_of(path.rpartition("/")[2])
        if packed is not None and not (gzip_is_read and packed[0] == GZIP):
            raise InputError(
                path,
                found=f"a file compressed with {packed[0]}",
                wanted="captions as they are, or compressed with gzip" if gzip_is_read else "a tar as it is",
                remedy=f"Unpack it first: {packed[1]}.",
            )


HEAD_BYTES = 1 << 16
PARQUET_MAGIC, TAR_MAGIC = b"PAR1", b"ustar"
TAR_MAGIC_AT = 257


def begins_as(path: str, stored: StoredFormat, *, like: str) -> bool:
    """Tell a file of the format by its first bytes; a table must have the same first line as the file `like`."""
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
    with open_stream(path, compression="detect" if decompressed else None) as stream:
        head: bytes = stream.read(HEAD_BYTES)
    return head


JSON_HEAD_BYTES = 1 << 20
LONGEST_MARK = 64
ONE_DOCUMENT = "one JSON document, not JSON lines"
HOW_TO_WRITE_LINES = (
    "Write one record a line, as with: jq -c '.[]' x.json > x.jsonl. COCO's captions are read with --format coco."
)
_MARKS = (rb'"images"\s*:', rb'"(annotations|sentences)"\s*:', rb'"(caption|raw)"\s*:')


def json_format_of(paths: Sequence[str]) -> tuple[Literal["jsonl", "coco"], list[str]]:
    """Format of files called .json, and the files that have it: recognised by the first file that can be read.

    Of COCO's files, only those with captions are taken. Raises InputError if the first file is a document of another
    kind and none holds COCO's captions.
    """
    kinds: dict[str, StoredFormat | None] = {}
    for path in paths:
        try:
            kinds[path] = _kind_of(path)
        except OSError:
            # Its task will report the error.
            continue
        if kinds[path] == "jsonl" and "coco" not in kinds.values():
            return "jsonl", list(paths)
    if captions := [path for path, kind in kinds.items() if kind == "coco"]:
        return "coco", captions
    raise InputError(
        next(iter(kinds), paths[0]),
        found=ONE_DOCUMENT if kinds else "a file that cannot be read",
        wanted="JSON lines, or COCO's images and annotations with captions",
        remedy=HOW_TO_WRITE_LINES,
    )


def _kind_of(path: str) -> StoredFormat | None:
    with open_stream(path) as stream:
        head = stream.read(JSON_HEAD_BYTES)
        first = head.removeprefix(b"\xef\xbb\xbf").lstrip().split(b"\n", 1)[0]
        try:
            record = json.loads(first)
        except (ValueError, RecursionError):
            record = None
        if first.startswith(b"{") and _holds_marks(head, stream):
            return "coco"
        return "jsonl" if isinstance(record, dict) and not {"images", "annotations"} <= set(record) else None


def _holds_marks(head: bytes, rest: BinaryIO) -> bool:
    """Tell a file with all names that COCO's captions have, without parsing it: it may have a hundred megabytes.

    JSON lines are not read beyond the head, unless they have images too.
    """
    wanted = list(_MARKS)
    if re.search(_MARKS[0], head) is None and b"\n" in head:
        return False
    block = head
    while wanted and block:
        wanted = [mark for mark in wanted if re.search(mark, block) is None]
        more = rest.read(JSON_HEAD_BYTES)
        block = block[-LONGEST_MARK:] + more if more else b""
    return not wanted
